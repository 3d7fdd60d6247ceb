package main

import (
	"context"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/routing"
	"github.com/multiformats/go-multihash"
)

// findPeer returns the addresses that the DHT has of a peer.
func findPeer(n *node, ctx context.Context, to peer.ID, _ request) (any, error) {
	info, err := n.dht.FindPeer(ctx, to)
	return info.Addrs, err
}

// rendezvousCID is the key under which members of `protocol` (a rendezvous text) are found, as go-libp2p's routing discovery has it.
func rendezvousCID(text string) (cid.Cid, error) {
	hash, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	return cid.NewCidV1(cid.Raw, hash), err
}

// provide announces this peer as a provider of the rendezvous `protocol`, to the closest servers.
func provide(n *node, ctx context.Context, _ peer.ID, r request) (any, error) {
	key, err := rendezvousCID(r.Protocol)
	if err != nil {
		return nil, err
	}
	return nil, n.dht.Provide(ctx, key, true)
}

// findProviders looks for `count` providers of the rendezvous `protocol`.
func findProviders(n *node, ctx context.Context, _ peer.ID, r request) (any, error) {
	key, err := rendezvousCID(r.Protocol)
	if err != nil {
		return nil, err
	}
	return collect(n.dht.FindProvidersAsync(ctx, key, r.Count)), nil
}

// rendezvous announces this peer for the rendezvous `protocol` and returns who else is there, as the existing network's nodes do it.
func rendezvous(n *node, ctx context.Context, _ peer.ID, r request) (any, error) {
	discovery := routing.NewRoutingDiscovery(n.dht)
	if _, err := discovery.Advertise(ctx, r.Protocol); err != nil {
		return nil, err
	}
	found, err := discovery.FindPeers(ctx, r.Protocol)
	if err != nil {
		return nil, err
	}
	return collect(found), nil
}

// collect gives the addresses found by peer.
func collect(found <-chan peer.AddrInfo) object {
	all := object{}
	for info := range found {
		all[info.ID.String()] = info.Addrs
	}
	return all
}

func routingTable(n *node, _ context.Context, _ peer.ID, _ request) (any, error) {
	return append([]peer.ID{}, n.dht.RoutingTable().ListPeers()...), nil // an empty list is not null
}
