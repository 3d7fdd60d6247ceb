// Command load is both ends of the benchmark: a fake model endpoint and a closed-loop client, each many times faster
// than the node between them.
//
//	load serve ADDR [QUERY]
//	load run [-c N] [-n N] [-stream] [-spread D] [-timeout D] URL BODY
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	switch {
	case len(args) >= 2 && len(args) <= 3 && args[0] == "serve":
		usual, err := url.ParseQuery(strings.Join(args[2:], ""))
		if err != nil {
			return err
		}
		return http.ListenAndServe(args[1], newEndpoint(usual))
	case len(args) > 0 && args[0] == "run":
		return runLoad(args[1:])
	}
	return fmt.Errorf("usage: load serve ADDR [QUERY] | load run [flags] URL BODY")
}

func runLoad(args []string) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	var l load
	flags.IntVar(&l.clients, "c", 1, "clients at once")
	flags.IntVar(&l.requests, "n", 100, "requests in all")
	flags.BoolVar(&l.stream, "stream", false, "the answers are event streams")
	flags.DurationVar(&l.spread, "spread", 0, "clients arrive evenly over this time")
	flags.DurationVar(&l.timeout, "timeout", 2*time.Minute, "longest time of one request")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 || l.clients < 1 {
		return fmt.Errorf("run needs URL and BODY, and at least one client")
	}
	l.url, l.body = flags.Arg(0), []byte(flags.Arg(1))
	return json.NewEncoder(os.Stdout).Encode(l.run())
}
