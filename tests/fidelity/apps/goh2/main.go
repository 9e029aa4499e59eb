// The service of apps/go over HTTP/2 in plain text, or gRPC: what it serves and what it calls is chosen apart.
//
// A gRPC method is /fidelity.Service/TOKEN, with _ for the slashes of the token; its message is empty.
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
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

const service = "/fidelity.Service/"

var (
	port    = flag.Int("port", 0, "port to listen on")
	backend = flag.String("backend", "", "HOST:PORT of the backend")
	serves  = flag.String("serves", "h2", "h1, h2 (HTTP/1.1 as well) or grpc")
	calls   = flag.String("calls", "h2", "h1, h2 or grpc")
	client  *http.Client
	channel *grpc.ClientConn
)

// empty is the codec of messages without anything in them.
type empty struct{}

func (empty) Name() string                         { return "proto" }
func (empty) Marshal(any) (mem.BufferSlice, error) { return nil, nil }
func (empty) Unmarshal(mem.BufferSlice, any) error { return nil }

func call(ctx context.Context, token string) error {
	if *calls == "grpc" {
		return channel.Invoke(ctx, service+strings.ReplaceAll(token, "/", "_"), nil, nil)
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

// work makes k calls for what the token stands for.
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
		go func() {
			defer group.Done()
			errors[i] = call(ctx, fmt.Sprintf("%s/%d", token, i))
		}()
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

func answerCall(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	if err := stream.RecvMsg(nil); err != nil {
		return err
	}
	token := strings.ReplaceAll(strings.TrimPrefix(method, service), "_", "/")
	if err := work(stream.Context(), token, 1, false); err != nil {
		return err
	}
	return stream.SendMsg(nil)
}

func serve() error {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(*port))
	if *serves == "grpc" {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		return grpc.NewServer(grpc.UnknownServiceHandler(answerCall)).Serve(listener)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(*serves == "h2")
	http.HandleFunc("/", answer)
	server := &http.Server{Addr: address, Protocols: &protocols}
	return server.ListenAndServe()
}

func main() {
	flag.Parse()
	encoding.RegisterCodecV2(empty{})
	var protocols http.Protocols
	protocols.SetHTTP1(*calls == "h1")
	protocols.SetUnencryptedHTTP2(*calls == "h2")
	client = &http.Client{Transport: &http.Transport{
		Protocols:           &protocols,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     time.Minute,
	}}
	var err error
	if channel, err = grpc.NewClient(*backend, grpc.WithTransportCredentials(insecure.NewCredentials())); err == nil {
		err = serve()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
