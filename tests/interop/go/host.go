package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/routing"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
)

// settings are the flags.
type settings struct {
	key, listen, psk, security   string
	dhtMode                      string
	router, direct, topic        string
	relay                        string
	holePunching, resourceLimits bool
	legacy                       bool
	heartbeat                    time.Duration
}

// open starts the peer.
func open(ctx context.Context, s *settings) (*node, error) {
	key, err := s.privateKey()
	if err != nil {
		return nil, err
	}
	options, err := s.options(key)
	if err != nil {
		return nil, err
	}
	n := &node{}
	if s.dhtMode != "" {
		options = append(options, libp2p.Routing(func(h host.Host) (routing.PeerRouting, error) {
			n.dht, err = dht.New(ctx, h, dht.Mode(dhtModes[s.dhtMode]), dht.ProtocolPrefix("/dbc"))
			return n.dht, err
		}))
	}
	if n.host, err = libp2p.New(options...); err != nil {
		return nil, err
	}
	report(n.host)
	serveStreams(n.host)
	if s.legacy {
		if n.legacy, err = newLegacy(n, s, key); err != nil {
			return nil, err
		}
	}
	if s.router != "" {
		if err = join(ctx, n, s); err != nil {
			return nil, err
		}
	}
	return n, nil
}

var dhtModes = map[string]dht.ModeOpt{"server": dht.ModeServer, "client": dht.ModeClient}

func (s *settings) options(key crypto.PrivKey) ([]libp2p.Option, error) {
	options := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.DefaultMuxers,
		libp2p.ProtocolVersion("aicn/0.0.1"),
		libp2p.UserAgent("gopeer/1"),
		libp2p.DisableMetrics(),
	}
	if s.listen == "" {
		options = append(options, libp2p.NoListenAddrs, libp2p.EnableRelay())
	} else {
		options = append(options, libp2p.ListenAddrStrings(s.listen))
	}
	switch s.security {
	case "noise":
		options = append(options, libp2p.Security(noise.ID, noise.New))
	case "tls":
		options = append(options, libp2p.Security(tls.ID, tls.New))
	case "default":
		options = append(options, libp2p.DefaultSecurity)
	default:
		return nil, fmt.Errorf("security: %q", s.security)
	}
	if s.psk != "" {
		psk, err := hex.DecodeString(s.psk)
		if err != nil {
			return nil, err
		}
		options = append(options, libp2p.PrivateNetwork(psk))
	}
	switch s.relay {
	case "":
	case "limited":
		options = append(options, libp2p.EnableRelayService(), libp2p.ForceReachabilityPublic())
	case "unlimited":
		options = append(options, libp2p.EnableRelayService(relay.WithInfiniteLimits()), libp2p.ForceReachabilityPublic())
	default:
		return nil, fmt.Errorf("relay: %q", s.relay)
	}
	if s.holePunching {
		trustOneObserver()
		options = append(options, libp2p.EnableHolePunching(), libp2p.ForceReachabilityPrivate())
	}
	if !s.resourceLimits {
		options = append(options, libp2p.ResourceManager(&network.NullResourceManager{}))
	}
	return options, nil
}

func (s *settings) privateKey() (crypto.PrivKey, error) {
	if s.key == "" {
		key, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
		return key, err
	}
	data, err := base64.StdEncoding.DecodeString(s.key)
	if err != nil {
		return nil, err
	}
	return crypto.UnmarshalPrivateKey(data)
}

// fullAddresses are those that it listens on, each with its peer id.
func (n *node) fullAddresses() []string {
	full := []string{}
	for _, address := range n.host.Network().ListenAddresses() {
		if _, err := address.ValueForProtocol(multiaddr.P_CIRCUIT); err == nil {
			continue // the relay client "listens" too
		}
		full = append(full, fmt.Sprintf("%s/p2p/%s", address, n.host.ID()))
	}
	return full
}
