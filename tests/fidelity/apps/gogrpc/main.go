// The service of apps/go over gRPC, or HTTP/1 on one side, with what any version of grpc-go since 1.40 has.
//
// A method is /fidelity.Service/TOKEN, with _ for the slashes of the token; messages are empty.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
)

const service = "/fidelity.Service/"

var (
	port    = flag.Int("port", 0, "port to listen on")
	backend = flag.String("backend", "", "HOST:PORT of the backend")
	serves  = flag.String("serves", "h1", "h1 or grpc")
	calls   = flag.String("calls", "h1", "h1 or grpc")
	stream  = flag.Bool("stream", false, "gRPC: a stream for each call; its server begins to answer, then has others do the work")
	patient = flag.Duration("patient", time.Minute, "gRPC: how long a call is waited for; its handler goes on")
	workers = flag.Uint("workers", 0, "gRPC: goroutines that handle calls; 0: a new one for each")
	client  = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute}}
	channel *grpc.ClientConn
)

// empty is the codec of messages without anything in them.
type empty struct{}

func (empty) Name() string                            { return "proto" }
func (empty) Marshal(interface{}) ([]byte, error)     { return []byte{}, nil }
func (empty) Unmarshal(_ []byte, _ interface{}) error { return nil }

func callByStream(ctx context.Context, method string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	description := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	opened, err := channel.NewStream(ctx, description, method)
	if err != nil {
		return err
	}
	if _, err = opened.Header(); err != nil {
		return err
	}
	for i := 0; i < 2; i++ {
		if err = opened.SendMsg(nil); err != nil {
			return err
		}
	}
	if err = opened.CloseSend(); err != nil {
		return err
	}
	for err == nil {
		err = opened.RecvMsg(nil)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func call(ctx context.Context, token string) error {
	if *calls == "grpc" {
		method := service + strings.ReplaceAll(token, "/", "_")
		ctx, cancel := context.WithTimeout(ctx, *patient)
		defer cancel()
		var err error
		if *stream {
			err = callByStream(ctx, method)
		} else {
			err = channel.Invoke(ctx, method, nil, nil)
		}
		if status.Code(err) == codes.DeadlineExceeded {
			return nil
		}
		return err
	}
	request, err := http.NewRequestWithContext(ctx, "GET", "http://"+*backend+"/b/"+token, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
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

// work makes k calls for what the token stands for; those in parallel by goroutines of goroutines.
func work(ctx context.Context, token string, k int, parallel bool) error {
	errors := make([]error, k)
	var group sync.WaitGroup
	for i := range errors {
		if !parallel {
			if err := call(ctx, fmt.Sprintf("%s/%d", token, i)); err != nil {
				return err
			}
			continue
		}
		group.Add(1)
		go func(i int) {
			go func() {
				defer group.Done()
				errors[i] = call(ctx, fmt.Sprintf("%s/%d", token, i))
			}()
		}(i)
	}
	group.Wait()
	for _, err := range errors {
		if err != nil {
			return err
		}
	}
	return nil
}

func answer(writer http.ResponseWriter, request *http.Request) {
	k, err := strconv.Atoi(request.URL.Query().Get("k"))
	if err != nil || k < 0 || k > 64 {
		k = 1
	}
	if err = work(request.Context(), request.URL.Path[len("/r/"):], k, request.URL.Query().Get("par") == "1"); err != nil {
		http.Error(writer, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(writer, "ok")
}

func answerCall(_ interface{}, opened grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(opened)
	token := strings.ReplaceAll(strings.TrimPrefix(method, service), "_", "/")
	if *stream {
		if err := opened.SendHeader(nil); err != nil {
			return err
		}
	}
	if err := opened.RecvMsg(nil); err != nil {
		return err
	}
	if *stream {
		if err := opened.SendMsg(nil); err != nil {
			return err
		}
	}
	if err := work(context.Background(), token, 1, *stream); err != nil {
		return err
	}
	return opened.SendMsg(nil)
}

func serve() error {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(*port))
	if *serves == "grpc" {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		options := []grpc.ServerOption{grpc.UnknownServiceHandler(answerCall), grpc.NumStreamWorkers(uint32(*workers))}
		return grpc.NewServer(options...).Serve(listener)
	}
	http.HandleFunc("/", answer)
	return http.ListenAndServe(address, nil)
}

func main() {
	flag.Parse()
	encoding.RegisterCodec(empty{})
	var err error
	if channel, err = grpc.Dial(*backend, grpc.WithTransportCredentials(insecure.NewCredentials())); err == nil {
		err = serve()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
