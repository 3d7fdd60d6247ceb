// A go-libp2p peer that tests drive.
//
// Flags say what it is, JSON lines on stdin what it does: {"id": 1, "command": "ping", "peer": "16Uiu…", "count": 3}. Each command
// runs on its own and is answered by a line on stdout, {"id": 1, "result": …} or {"id": 1, "error": "…"}; what happens by itself
// is a line {"event": "…", …}. The peer ends when stdin does, so that it never outlives its test.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
)

// object is a line of output, or a part of one.
type object map[string]any

// request is a line of input. Which fields count depends on the command.
type request struct {
	ID       int     `json:"id"`
	Command  string  `json:"command"`
	TimeoutS float64 `json:"timeout_s"` // 0: 30 s
	Peer     string  `json:"peer"`
	Address  string  `json:"address"`  // ends in /p2p/<id>
	Protocol string  `json:"protocol"` // or rendezvous text
	Count    int     `json:"count"`
	Size     int     `json:"size"` // bytes
	PauseMS  int     `json:"pause_ms"`
	Limited  bool    `json:"limited"` // open streams over limited relayed connections too

	// With -legacy:
	Project   string `json:"project"`
	Model     string `json:"model"`
	URL       string `json:"url"`
	Text      string `json:"text"`
	Wallet    string `json:"wallet"`
	Signature string `json:"signature"`
	Hash      string `json:"hash"`
	Stream    bool   `json:"stream"`
	Clients   int    `json:"clients"`
}

// node is the peer: its host and what runs on it.
type node struct {
	host  host.Host
	dht   *dht.IpfsDHT  // nil without -dht
	topic *pubsub.Topic // nil without -pubsub

	legacy *legacy // nil without -legacy
}

func main() {
	log.SetFlags(0)
	settings := parseFlags()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n, err := open(ctx, settings)
	if err != nil {
		log.Fatal(err)
	}
	defer n.host.Close()
	emit(object{"event": "ready", "peer": n.host.ID().String(), "addresses": n.fullAddresses()})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			log.Fatal(err)
		}
		go n.answer(ctx, r)
	}
}

func parseFlags() *settings {
	s := &settings{}
	flag.StringVar(&s.key, "key", "", "private key, base64 of the libp2p protobuf; none: a new secp256k1 key")
	flag.StringVar(&s.listen, "listen", "/ip4/127.0.0.1/tcp/0", "multiaddr to listen on; empty: none")
	flag.StringVar(&s.psk, "psk", "", "private network key, 64 hex digits")
	flag.StringVar(&s.security, "security", "default", "noise, tls, or default: tls and noise, tls offered first")
	flag.StringVar(&s.dhtMode, "dht", "", "server or client, under /dbc/kad/1.0.0; empty: none")
	flag.StringVar(&s.router, "pubsub", "", "gossipsub or floodsub; empty: none")
	flag.StringVar(&s.direct, "direct", "", "address of a peer that is a direct peer of gossipsub")
	flag.StringVar(&s.topic, "topic", "DeepBrainChain", "topic to join, and to announce ourselves for")
	flag.StringVar(&s.relay, "relay", "", "serve as a relay: limited or unlimited")
	flag.BoolVar(&s.holePunching, "hole-punching", false, "upgrade relayed connections (DCUtR), as a node behind a router")
	flag.BoolVar(&s.legacy, "legacy", false, "speak the existing network's protocol on the topic and on streams")
	flag.DurationVar(&s.heartbeat, "heartbeat", 180*time.Second, "how often a node with -legacy says what it has")
	flag.BoolVar(&s.resourceLimits, "resource-limits", false, "keep go-libp2p's default resource limits")
	flag.Parse()
	return s
}

var output sync.Mutex

// emit writes one line.
func emit(o object) {
	line, err := json.Marshal(o)
	if err != nil {
		log.Fatal(err)
	}
	output.Lock()
	defer output.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

// answer runs one command and writes what came of it.
func (n *node) answer(ctx context.Context, r request) {
	timeout := 30 * time.Second
	if r.TimeoutS > 0 {
		timeout = time.Duration(r.TimeoutS * float64(time.Second))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if r.Limited {
		ctx = allowLimited(ctx)
	}
	result, err := n.run(ctx, r)
	if err != nil {
		emit(object{"id": r.ID, "error": err.Error()})
		return
	}
	emit(object{"id": r.ID, "result": result})
}

// report makes events of connections that come and go.
func report(h host.Host) {
	h.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { emit(connectionEvent("connected", c)) },
		DisconnectedF: func(_ network.Network, c network.Conn) { emit(connectionEvent("disconnected", c)) },
	})
}

func connectionEvent(event string, c network.Conn) object {
	o := describe(c)
	o["event"], o["peer"] = event, c.RemotePeer().String()
	return o
}

func describe(c network.Conn) object {
	return object{
		"address":   c.RemoteMultiaddr().String(),
		"direction": c.Stat().Direction.String(),
		"security":  string(c.ConnState().Security),
		"muxer":     string(c.ConnState().StreamMultiplexer),
		"limited":   limited(c),
	}
}
