// The uninstrumented service behind shop.py: GET /stock/ID asks PostgreSQL and tells Redis.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

var (
	port     = flag.Int("port", 0, "port to listen on")
	postgres = flag.Int("postgresql", 0, "PostgreSQL's port")
	store    = flag.Int("redis", 0, "Redis's port")
)

func main() {
	flag.Parse()
	address := fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", *postgres)
	client := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", *store), Protocol: 2})
	var pool *pgxpool.Pool
	http.HandleFunc("/stock/", func(writer http.ResponseWriter, request *http.Request) {
		id := request.URL.Path[len("/stock/"):]
		if _, err := pool.Exec(request.Context(), fmt.Sprintf("select 'stock of %s'", id)); err != nil {
			http.Error(writer, err.Error(), 500)
			return
		}
		if err := client.Set(request.Context(), "stock:"+id, "1", 0).Err(); err != nil {
			http.Error(writer, err.Error(), 500)
			return
		}
		fmt.Fprintln(writer, "ok")
	})
	var err error
	if pool, err = pgxpool.New(context.Background(), address); err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(fmt.Sprintf("127.0.0.1:%d", *port), nil))
}
