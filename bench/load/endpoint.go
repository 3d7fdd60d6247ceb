package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	finish = `"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":8,"total_tokens":13}}`
	head   = `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":`
	last   = "data: " + head + "{}," + finish + "\n\ndata: [DONE]\n\n"
	whole  = `{"id":"c","object":"chat.completion","created":1,"model":"m",` +
		`"choices":[{"index":0,"message":{"role":"assistant","content":"%s"},` + finish
)

// endpoint answers any POST as an OpenAI chat endpoint would. How is said in the query: tokens (default 8), delay between
// two tokens and first before all of them, both in milliseconds; usual has what a query leaves out. GET /stats counts the requests.
type endpoint struct {
	open, total, cancelled atomic.Int64
	usual                  url.Values
}

func newEndpoint(usual url.Values) http.Handler {
	e := &endpoint{usual: usual}
	mux := http.NewServeMux()
	mux.HandleFunc("/stats", e.stats)
	mux.HandleFunc("/", e.chat)
	return mux
}

func (e *endpoint) stats(w http.ResponseWriter, _ *http.Request) {
	json.NewEncoder(w).Encode(map[string]int64{
		"open": e.open.Load(), "total": e.total.Load(), "cancelled": e.cancelled.Load(),
	})
}

func (e *endpoint) chat(w http.ResponseWriter, r *http.Request) {
	e.total.Add(1)
	e.open.Add(1)
	defer e.open.Add(-1)
	body, err := io.ReadAll(r.Body)
	var request struct {
		Stream bool `json:"stream"`
	}
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	query := r.URL.Query()
	tokens := number(query, "tokens", number(e.usual, "tokens", 8))
	delay := time.Duration(number(query, "delay", number(e.usual, "delay", 0))) * time.Millisecond
	first := time.Duration(number(query, "first", number(e.usual, "first", 0))) * time.Millisecond
	if request.Stream {
		err = stream(r.Context(), w, tokens, delay, first)
	} else if err = sleep(r.Context(), first+time.Duration(tokens)*delay); err == nil {
		w.Header().Set("Content-Type", "application/json")
		_, err = fmt.Fprintf(w, whole, strings.Repeat("tok ", tokens))
	}
	if err != nil {
		e.cancelled.Add(1)
	}
}

// stream sends each token in a write of its own, as engines do, also when there is no delay between them.
func stream(ctx context.Context, w http.ResponseWriter, tokens int, delay, first time.Duration) error {
	w.Header().Set("Content-Type", "text/event-stream")
	flusher := http.NewResponseController(w)
	if err := sleep(ctx, first); err != nil {
		return err
	}
	for i := range tokens {
		event := "data: " + head + `{"content":"tok` + strconv.Itoa(i) + ` "},"finish_reason":null}]}` + "\n\n"
		if _, err := io.WriteString(w, event); err != nil {
			return err
		}
		if err := flusher.Flush(); err != nil {
			return err
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, last)
	return err
}

// sleep ends early, with an error, when the caller has left.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func number(query url.Values, name string, fallback int) int {
	if v, err := strconv.Atoi(query.Get(name)); err == nil {
		return v
	}
	return fallback
}
