module fidelity/goapp

go 1.18
