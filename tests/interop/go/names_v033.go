//go:build !latest

package main

import (
	"context"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
)

// allowLimited makes streams open over limited relayed connections too.
func allowLimited(ctx context.Context) context.Context {
	return network.WithUseTransient(ctx, "interop")
}

// limited tells whether a connection goes over a relay with limits.
func limited(c network.Conn) bool { return c.Stat().Transient }

// trustOneObserver takes an address for ours that a single peer has seen us at, not four: test networks are small.
func trustOneObserver() { identify.ActivationThresh = 1 }
