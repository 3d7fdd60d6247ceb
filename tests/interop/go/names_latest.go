//go:build latest

package main

import (
	"context"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/observedaddrs"
)

// allowLimited makes streams open over limited relayed connections too.
func allowLimited(ctx context.Context) context.Context {
	return network.WithAllowLimitedConn(ctx, "interop")
}

// limited tells whether a connection goes over a relay with limits.
func limited(c network.Conn) bool { return c.Stat().Limited }

// trustOneObserver takes an address for ours that a single peer has seen us at, not four: test networks are small.
func trustOneObserver() { observedaddrs.ActivationThresh = 1 }
