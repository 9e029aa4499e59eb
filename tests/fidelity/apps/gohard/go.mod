module fidelity/gohard

go 1.18
