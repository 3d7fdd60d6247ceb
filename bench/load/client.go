package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load is a closed loop: each client sends its next request when the last one was answered.
type load struct {
	url               string
	body              []byte
	clients, requests int
	stream            bool
	spread, timeout   time.Duration
}

// report is what a run measured; times in milliseconds, percentiles over all requests (gaps: over all events).
type report struct {
	OK      int            `json:"ok"`
	Lost    int            `json:"lost"` // requests without a complete answer
	Fails   map[string]int `json:"fails,omitempty"`
	Seconds float64        `json:"seconds"`
	RPS     float64        `json:"rps"`
	P50     float64        `json:"p50"`
	P99     float64        `json:"p99"`
	*streamReport
}

type streamReport struct {
	First50 float64 `json:"first50"` // from sending the request to the first event
	First99 float64 `json:"first99"`
	Gap50   float64 `json:"gap50"`
	Gap99   float64 `json:"gap99"`
	GapMax  float64 `json:"gap_max"`
	Events  float64 `json:"events_s"` // per second
}

// sample is one answered request.
type sample struct {
	whole, first float64
	gaps         []float64
}

func (l *load) run() report {
	client := &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: l.clients, DisableCompression: true},
		Timeout:   l.timeout,
	}
	var (
		mu      sync.Mutex
		samples []sample
		fails   = map[string]int{}
		taken   atomic.Int64
		wg      sync.WaitGroup
	)
	start := time.Now()
	for i := range l.clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			time.Sleep(l.spread * time.Duration(i) / time.Duration(l.clients))
			for taken.Add(1) <= int64(l.requests) {
				s, err := l.once(client)
				mu.Lock()
				if err != nil {
					fails[err.Error()]++
				} else {
					samples = append(samples, s)
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return l.summary(samples, fails, time.Since(start).Seconds())
}

// once sends one request. A stream counts as answered only with [DONE], a plain answer only with status 200 and choices.
func (l *load) once(client *http.Client) (sample, error) {
	start := time.Now()
	response, err := client.Post(l.url, "application/json", bytes.NewReader(l.body))
	if err != nil {
		return sample{}, errors.Unwrap(err) // without the URL, so that equal reasons add up
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		return sample{}, fmt.Errorf("%s: %s", response.Status, text)
	}
	var s sample
	if l.stream {
		s, err = readEvents(response.Body, start)
	} else {
		err = readWhole(response.Body)
	}
	s.whole = since(start)
	return s, err
}

func readWhole(body io.Reader) error {
	text, err := io.ReadAll(body)
	if err == nil && !bytes.Contains(text, []byte(`"choices"`)) {
		err = fmt.Errorf("no choices: %.200s", text)
	}
	return err
}

func readEvents(body io.Reader, start time.Time) (sample, error) {
	var s sample
	var before time.Time
	lines, done := bufio.NewReaderSize(body, 64<<10), false
	for {
		line, err := lines.ReadSlice('\n')
		if bytes.HasPrefix(line, []byte("data:")) {
			now := time.Now()
			if before.IsZero() {
				s.first = since(start)
			} else {
				s.gaps = append(s.gaps, float64(now.Sub(before))/1e6)
			}
			before = now
			done = done || bytes.Contains(line, []byte("[DONE]"))
		}
		switch {
		case err == io.EOF && done:
			return s, nil
		case err == io.EOF:
			return s, errors.New("the stream ended without [DONE]")
		case err != nil:
			return s, err
		}
	}
}

func (l *load) summary(samples []sample, fails map[string]int, seconds float64) report {
	var whole, first, gaps []float64
	for _, s := range samples {
		whole, first, gaps = append(whole, s.whole), append(first, s.first), append(gaps, s.gaps...)
	}
	r := report{OK: len(samples), Fails: fails, Seconds: seconds, RPS: float64(len(samples)) / seconds}
	for _, n := range fails {
		r.Lost += n
	}
	r.P50, r.P99 = percentile(whole, 0.5), percentile(whole, 0.99)
	if l.stream {
		r.streamReport = &streamReport{
			First50: percentile(first, 0.5), First99: percentile(first, 0.99),
			Gap50: percentile(gaps, 0.5), Gap99: percentile(gaps, 0.99), GapMax: percentile(gaps, 1),
			Events: float64(len(first)+len(gaps)) / seconds,
		}
	}
	return r
}

// percentile sorts values and takes the nearest rank below; 0 for no values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[int(p*float64(len(values)-1))]
}

func since(t time.Time) float64 { return float64(time.Since(t)) / 1e6 }
