package main

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

type command func(n *node, ctx context.Context, to peer.ID, r request) (any, error)

// commands by name; `to` is the peer that the request names, if it does.
var commands = map[string]command{
	"connect":        connect,
	"disconnect":     disconnect,
	"peer":           describePeer,
	"addresses":      addresses,
	"protocols":      protocols,
	"ping":           pingPeer,
	"serve":          serve,
	"reserve":        reserve,
	"upload":         upload,
	"download":       download,
	"echo":           echoMany,
	"ask-for-reset":  askForReset,
	"abandon":        leave,
	"finish":         leave,
	"publish":        publish,
	"topic-peers":    topicPeers,
	"find-peer":      findPeer,
	"provide":        provide,
	"find-providers": findProviders,
	"rendezvous":     rendezvous,
	"routing-table":  routingTable,
}

func (n *node) run(ctx context.Context, r request) (any, error) {
	f, known := commands[r.Command]
	if !known {
		return nil, fmt.Errorf("unknown command %q", r.Command)
	}
	var to peer.ID
	if r.Peer != "" {
		var err error
		if to, err = peer.Decode(r.Peer); err != nil {
			return nil, err
		}
	}
	return f(n, ctx, to, r)
}

func connect(n *node, ctx context.Context, _ peer.ID, r request) (any, error) {
	info, err := peer.AddrInfoFromString(r.Address)
	if err != nil {
		return nil, err
	}
	return nil, n.host.Connect(ctx, *info)
}

func disconnect(n *node, _ context.Context, to peer.ID, _ request) (any, error) {
	return nil, n.host.Network().ClosePeer(to)
}

// describePeer says what identify has told about a peer, and how we are connected to it.
func describePeer(n *node, _ context.Context, to peer.ID, _ request) (any, error) {
	store := n.host.Peerstore()
	protocols, err := store.GetProtocols(to)
	if err != nil {
		return nil, err
	}
	connections := []object{}
	for _, c := range n.host.Network().ConnsToPeer(to) {
		connections = append(connections, describe(c))
	}
	agent, _ := store.Get(to, "AgentVersion") // an error: identify has not run yet
	version, _ := store.Get(to, "ProtocolVersion")
	return object{
		"agent":            agent,
		"protocol_version": version,
		"protocols":        protocols,
		"addresses":        store.Addrs(to),
		"connections":      connections,
	}, nil
}

func addresses(n *node, _ context.Context, _ peer.ID, _ request) (any, error) {
	return n.host.Addrs(), nil
}

// protocols are those that it serves.
func protocols(n *node, _ context.Context, _ peer.ID, _ request) (any, error) {
	return n.host.Mux().Protocols(), nil
}

// pingPeer returns `count` round trips, seconds.
func pingPeer(n *node, ctx context.Context, to peer.ID, r request) (any, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	trips := []float64{}
	for result := range ping.Ping(ctx, n.host, to) {
		if result.Error != nil {
			return nil, result.Error
		}
		if trips = append(trips, result.RTT.Seconds()); len(trips) == r.Count {
			return trips, nil
		}
	}
	return nil, ctx.Err()
}

// serve adds a protocol, which identify then pushes to all peers.
func serve(n *node, _ context.Context, _ peer.ID, r request) (any, error) {
	n.host.SetStreamHandler(protocol.ID(r.Protocol), func(s network.Stream) { s.Close() })
	return nil, nil
}

// reserve makes a reservation with a relay and returns the addresses that the relay vouches for.
func reserve(n *node, ctx context.Context, _ peer.ID, r request) (any, error) {
	info, err := peer.AddrInfoFromString(r.Address)
	if err != nil {
		return nil, err
	}
	reservation, err := client.Reserve(ctx, n.host, *info)
	if err != nil {
		return nil, err
	}
	return object{
		"expires":          reservation.Expiration.Unix(),
		"addresses":        reservation.Addrs,
		"limit_bytes":      reservation.LimitData,
		"limit_duration_s": reservation.LimitDuration.Seconds(),
		"voucher":          reservation.Voucher != nil,
	}, nil
}
