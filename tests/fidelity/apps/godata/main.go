// A service that turns GET /r/TOKEN?k=K&par=0|1 into K commands to a data store that carry TOKEN/I in their text:
// pgx's pool or database/sql to PostgreSQL, go-redis to Redis.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/lib/pq"
	"github.com/redis/go-redis/v9"
)

var (
	port    = flag.Int("port", 0, "port to listen on")
	backend = flag.String("backend", "", "HOST:PORT of the data store")
	style   = flag.String("style", "pgx", "pgx, sql (database/sql with lib/pq) or redis")
	pool    = flag.Int("pool", 16, "connections to the data store at most")
	command func(context.Context, string) error
)

// statement takes 0 to 20 ms in the server, by the id's last digit, so that requests overlap.
func statement(text string) string {
	var wait int
	for _, c := range text {
		wait = (wait*31 + int(c)) % 21
	}
	return fmt.Sprintf("select '%s', pg_sleep(%.3f)", text, float64(wait)/1000)
}

func open() (func(context.Context, string) error, error) {
	host, number, err := net.SplitHostPort(*backend)
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres sslmode=disable", host, number)
	switch *style {
	case "pgx":
		pgx, err := pgxpool.New(context.Background(), fmt.Sprintf("%s pool_max_conns=%d", address, *pool))
		return func(ctx context.Context, text string) error {
			_, err := pgx.Exec(ctx, statement(text))
			return err
		}, err
	case "sql":
		db, err := sql.Open("postgres", address)
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(*pool)
		db.SetMaxIdleConns(*pool)
		return func(ctx context.Context, text string) error {
			_, err := db.ExecContext(ctx, statement(text))
			return err
		}, nil
	case "redis":
		client := redis.NewClient(&redis.Options{Addr: *backend, PoolSize: *pool, Protocol: 2})
		return func(ctx context.Context, text string) error {
			return client.Set(ctx, text, "1", 0).Err()
		}, nil
	}
	return nil, fmt.Errorf("unknown style %q", *style)
}

func serve(writer http.ResponseWriter, request *http.Request) {
	token := request.URL.Path[len("/r/"):]
	k, err := strconv.Atoi(request.URL.Query().Get("k"))
	if err != nil || k < 0 || k > 64 {
		k = 1
	}
	errors := make([]error, k)
	var group sync.WaitGroup
	for i := range errors {
		one := func(i int) { errors[i] = command(request.Context(), fmt.Sprintf("%s/%d", token, i)) }
		if request.URL.Query().Get("par") != "1" {
			one(i)
			continue
		}
		group.Add(1)
		go func(i int) {
			defer group.Done()
			one(i)
		}(i)
	}
	group.Wait()
	for _, err := range errors {
		if err != nil {
			http.Error(writer, err.Error(), http.StatusBadGateway)
			return
		}
	}
	fmt.Fprintln(writer, "ok")
}

func main() {
	flag.Parse()
	var err error
	if command, err = open(); err == nil {
		http.HandleFunc("/r/", serve)
		http.HandleFunc("/b/", serve)
		err = http.ListenAndServe(net.JoinHostPort("127.0.0.1", strconv.Itoa(*port)), nil)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
