package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// join makes the peer a member of its topic; without -legacy each message of others is an event.
func join(ctx context.Context, n *node, s *settings) error {
	open, options := pubsub.NewFloodSub, []pubsub.Option{}
	switch s.router {
	case "floodsub":
	case "gossipsub":
		open = pubsub.NewGossipSub
		options = append(options, pubsub.WithFloodPublish(true)) // as the existing network's nodes
	default:
		return fmt.Errorf("pubsub: %q", s.router)
	}
	if s.direct != "" {
		info, err := peer.AddrInfoFromString(s.direct)
		if err != nil {
			return err
		}
		options = append(options, pubsub.WithDirectPeers([]peer.AddrInfo{*info}))
	}
	service, err := open(ctx, n.host, options...)
	if err != nil {
		return err
	}
	if n.topic, err = service.Join(s.topic); err != nil {
		return err
	}
	subscription, err := n.topic.Subscribe(pubsub.WithBufferSize(4096))
	if err != nil {
		return err
	}
	if n.legacy == nil {
		go hear(ctx, n.host.ID(), subscription)
		return nil
	}
	go n.legacy.hear(ctx, subscription)
	go n.legacy.beat(ctx, s.heartbeat)
	return nil
}

func hear(ctx context.Context, own peer.ID, subscription *pubsub.Subscription) {
	for {
		message, err := subscription.Next(ctx)
		if err != nil {
			return // the peer ends
		}
		if message.GetFrom() != own {
			emit(object{"event": "message", "peer": message.GetFrom().String(), "size": len(message.Data), "sha256": digest(message.Data)})
		}
	}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// publish sends `count` messages of `size` bytes, `pause_ms` apart, and returns their hashes.
func publish(n *node, ctx context.Context, _ peer.ID, r request) (any, error) {
	digests := []string{}
	for len(digests) < r.Count {
		data := random(r.Size)
		if err := n.topic.Publish(ctx, data); err != nil {
			return nil, err
		}
		digests = append(digests, digest(data))
		time.Sleep(time.Duration(r.PauseMS) * time.Millisecond)
	}
	return digests, nil
}

// topicPeers are those that are known to be subscribed.
func topicPeers(n *node, _ context.Context, _ peer.ID, _ request) (any, error) {
	return append([]peer.ID{}, n.topic.ListPeers()...), nil // an empty list is not null
}
