// A service that turns GET /r/TOKEN?k=K&par=0|1 into K calls GET http://BACKEND/b/TOKEN/I, in the ways that Go services
// do: in the handler, one goroutine a call, or through channels to workers that are as old as the process.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// job is one call, on its way to a worker; done gets what came of it.
type job struct {
	path string
	done chan<- error
}

var (
	port     = flag.Int("port", 0, "port to listen on")
	backend  = flag.String("backend", "", "HOST:PORT of the backend")
	style    = flag.String("style", "handler", "handler: calls are made where the request is handled; workers: by a pool fed by a channel")
	workers  = flag.Int("workers", 16, "size of the pool")
	pool     = flag.Int("pool", 64, "idle connections kept to the backend")
	maximum  = flag.Int("maximum", 0, "connections to the backend at most, 0: as many as are wanted")
	scheme   = flag.String("scheme", "http", "the backend's: http or https")
	certFile = flag.String("cert", "", "serve https with this certificate (PEM)")
	keyFile  = flag.String("key", "", "and this key")
	think    = flag.Duration("think", 0, "time spent before each call")
	client   *http.Client
	jobs     = make(chan job, 256)
)

func call(path string) error {
	if *think > 0 {
		time.Sleep(*think)
	}
	response, err := client.Get(*scheme + "://" + *backend + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err = io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("backend: %s", response.Status)
	}
	return nil
}

// sequential makes the calls one after the other in the handler's goroutine.
func sequential(paths []string) error {
	for _, path := range paths {
		if err := call(path); err != nil {
			return err
		}
	}
	return nil
}

// fanOut makes every call in a goroutine of its own.
func fanOut(paths []string) error {
	var group sync.WaitGroup
	errors := make([]error, len(paths))
	for i, path := range paths {
		group.Add(1)
		go func(i int, path string) {
			defer group.Done()
			errors[i] = call(path)
		}(i, path)
	}
	group.Wait()
	for _, err := range errors {
		if err != nil {
			return err
		}
	}
	return nil
}

// handOff gives the calls to the pool: one after the other, or all at once.
func handOff(paths []string, parallel bool) error {
	done := make(chan error, len(paths))
	pending := 0
	for _, path := range paths {
		jobs <- job{path, done}
		pending++
		if !parallel {
			if err := <-done; err != nil {
				return err
			}
			pending--
		}
	}
	var first error
	for ; pending > 0; pending-- {
		if err := <-done; err != nil {
			first = err
		}
	}
	return first
}

func serve(writer http.ResponseWriter, request *http.Request) {
	token := request.URL.Path[len("/r/"):]
	k, err := strconv.Atoi(request.URL.Query().Get("k"))
	if err != nil || k < 0 || k > 64 {
		k = 1
	}
	paths := make([]string, k)
	for i := range paths {
		paths[i] = fmt.Sprintf("/b/%s/%d", token, i)
	}
	parallel := request.URL.Query().Get("par") == "1"
	switch {
	case *style == "workers":
		err = handOff(paths, parallel)
	case parallel:
		err = fanOut(paths)
	default:
		err = sequential(paths)
	}
	if err != nil {
		http.Error(writer, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(writer, "ok")
}

func main() {
	flag.Parse()
	client = &http.Client{Transport: &http.Transport{
		MaxIdleConns:        *pool,
		MaxIdleConnsPerHost: *pool,
		MaxConnsPerHost:     *maximum,
		IdleConnTimeout:     time.Minute,
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2:   false,
	}}
	if *style == "workers" {
		for i := 0; i < *workers; i++ {
			go func() {
				for one := range jobs {
					one.done <- call(one.path)
				}
			}()
		}
	}
	http.HandleFunc("/r/", serve)
	http.HandleFunc("/b/", serve)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(*port))
	var err error
	if *certFile != "" {
		server := &http.Server{Addr: address, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
		err = server.ListenAndServeTLS(*certFile, *keyFile)
	} else {
		err = http.ListenAndServe(address, nil)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
