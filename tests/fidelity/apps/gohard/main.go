// The service of apps/go in ways that are hard to follow: work that changes goroutines by channels of every sort, by
// goroutines of goroutines, by queues that are no channels, and after the answer.
package main

import (
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

type job struct {
	path string
	done chan<- error
}

// urgent is another type of job: it comes by another channel.
type urgent struct {
	number int
	job    job
}

// line is one of few things that workers borrow from each other by a channel.
type line struct{ number int }

var (
	port    = flag.Int("port", 0, "port to listen on")
	backend = flag.String("backend", "", "HOST:PORT of the backend")
	style   = flag.String("style", "lazy", "one of the keys of styles")
	workers = flag.Int("workers", 16, "size of the pool")
	client  = &http.Client{Transport: &http.Transport{MaxIdleConns: 64, MaxIdleConnsPerHost: 64}}
	once    sync.Once
	lines   = make(chan *line, 12)
	slots   = make(chan struct{}, 24)
	turns   = make(chan bool, 24)
)

// styles: how the calls of a request are made; each returns when they are, but for "after".
var styles = map[string]func(paths []string) error{
	"lazy":       pool(make(chan job, 256), work),
	"unbuffered": pool(make(chan job), work),
	"functions":  functions,
	"borrow":     pool(make(chan job, 256), borrow),
	"relay":      relay,
	"actor":      actor,
	"two":        two,
	"queue":      queue,
	"nested":     nested,
	"limited":    limited,
	"collect":    collect,
	"timeout":    sequential,
	"after":      after,
}

func call(path string) error {
	response, err := client.Get("http://" + *backend + path)
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

func sequential(paths []string) error {
	for _, path := range paths {
		if err := call(path); err != nil {
			return err
		}
	}
	return nil
}

func work(jobs <-chan job) {
	for one := range jobs {
		one.done <- call(one.path)
	}
}

// borrow: a worker takes a line that another one has put back, for the time of a call.
func borrow(jobs <-chan job) {
	for one := range jobs {
		mine := <-lines
		err := call(one.path)
		lines <- mine
		one.done <- err
	}
}

func all(paths []string, hand func(job)) error {
	done := make(chan error, len(paths))
	for _, path := range paths {
		hand(job{path, done})
	}
	var first error
	for range paths {
		if err := <-done; err != nil {
			first = err
		}
	}
	return first
}

// pool: workers that the first request makes.
func pool(jobs chan job, worker func(<-chan job)) func([]string) error {
	return func(paths []string) error {
		once.Do(func() {
			for i := 0; i < *workers; i++ {
				go worker(jobs)
			}
		})
		return all(paths, func(one job) { jobs <- one })
	}
}

var tasks = make(chan func())

// functions: what is handed over is what is to be done.
func functions(paths []string) error {
	once.Do(func() {
		for i := 0; i < *workers; i++ {
			go func() {
				for task := range tasks {
					task()
				}
			}()
		}
	})
	return all(paths, func(one job) { tasks <- func() { one.done <- call(one.path) } })
}

var entrance, exits = make(chan job, 4), make(chan urgent, 4)

// relay: a goroutine passes on what it gets, as another type.
func relay(paths []string) error {
	once.Do(func() {
		go func() {
			number := 0
			for one := range entrance {
				number++
				exits <- urgent{number, one}
			}
		}()
		for i := 0; i < *workers; i++ {
			go func() {
				for one := range exits {
					one.job.done <- call(one.job.path)
				}
			}()
		}
	})
	return all(paths, func(one job) { entrance <- one })
}

var letters = make(chan job)

// actor: few goroutines own the backend; whoever wants something of it asks one of them and waits.
func actor(paths []string) error {
	once.Do(func() {
		for i := 0; i < 8; i++ {
			go work(letters)
		}
	})
	for _, path := range paths {
		done := make(chan error)
		letters <- job{path, done}
		if err := <-done; err != nil {
			return err
		}
	}
	return nil
}

var plain, fast = make(chan job, 64), make(chan urgent, 64)

// two: workers that get jobs of two types, and do something of their own now and then.
func two(paths []string) error {
	once.Do(func() {
		for i := 0; i < *workers; i++ {
			go func() {
				own := time.NewTicker(100 * time.Millisecond)
				for {
					select {
					case one := <-plain:
						one.done <- call(one.path)
					case one := <-fast:
						one.job.done <- call(one.job.path)
					case <-own.C:
						call("/b/nobody/0")
					}
				}
			}()
		}
	})
	number := 0
	return all(paths, func(one job) {
		number++
		if number%2 == 0 {
			fast <- urgent{number, one}
		} else {
			plain <- one
		}
	})
}

var (
	mutex   sync.Mutex
	more    = sync.NewCond(&mutex)
	waiting []job
)

// queue: jobs lie in a list.
func queue(paths []string) error {
	once.Do(func() {
		for i := 0; i < *workers; i++ {
			go func() {
				for {
					mutex.Lock()
					for len(waiting) == 0 {
						more.Wait()
					}
					one := waiting[0]
					waiting = waiting[1:]
					mutex.Unlock()
					one.done <- call(one.path)
				}
			}()
		}
	})
	return all(paths, func(one job) {
		mutex.Lock()
		waiting = append(waiting, one)
		mutex.Unlock()
		more.Signal()
	})
}

// nested: goroutines of goroutines.
func nested(paths []string) error {
	return all(paths, func(one job) {
		go func() {
			go func() { one.done <- call(one.path) }()
		}()
	})
}

// limited: a goroutine for each call, of which some run at a time.
func limited(paths []string) error {
	return all(paths, func(one job) {
		slots <- struct{}{}
		go func() {
			turns <- true
			one.done <- call(one.path)
			<-turns
			<-slots
		}()
	})
}

// collect: workers of this request alone, fed and emptied by channels of its own; a call once all is there.
func collect(paths []string) error {
	jobs, results := make(chan string), make(chan error, len(paths))
	for i := 0; i < 2; i++ {
		go func() {
			for path := range jobs {
				results <- call(path)
			}
		}()
	}
	ended := make(chan error)
	go func() {
		for range paths[1:] {
			<-results
		}
		ended <- call(paths[0])
	}()
	for _, path := range paths[1:] {
		jobs <- path
	}
	close(jobs)
	return <-ended
}

// after: the calls are made when the request has been answered.
func after(paths []string) error {
	go func() {
		time.Sleep(3 * time.Millisecond)
		sequential(paths)
	}()
	return nil
}

func serve(writer http.ResponseWriter, request *http.Request) {
	token := request.URL.Path[len("/r/"):]
	k, err := strconv.Atoi(request.URL.Query().Get("k"))
	if err != nil || k < 1 || k > 64 {
		k = 1
	}
	paths := make([]string, k)
	for i := range paths {
		paths[i] = fmt.Sprintf("/b/%s/%d", token, i)
	}
	if err = styles[*style](paths); err != nil {
		http.Error(writer, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(writer, "ok")
}

func main() {
	flag.Parse()
	for i := 0; i < cap(lines); i++ {
		lines <- &line{i}
	}
	var handler http.Handler = http.HandlerFunc(serve)
	if *style == "timeout" {
		handler = http.TimeoutHandler(handler, 30*time.Second, "too late")
	}
	http.Handle("/", handler)
	fmt.Fprintln(os.Stderr, http.ListenAndServe(net.JoinHostPort("127.0.0.1", strconv.Itoa(*port)), nil))
	os.Exit(1)
}
