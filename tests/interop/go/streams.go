package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/sync/errgroup"
)

// What both sides of the tests serve. Each begins when the stream opens.
const (
	echoProtocol   = "/interop/echo/1"   // sends back what comes, to the end
	sinkProtocol   = "/interop/sink/1"   // reads to the end, answers the SHA-256 in hex
	lazyProtocol   = "/interop/lazy/1"   // a sink that begins to read after lazyPause
	sourceProtocol = "/interop/source/1" // reads a size (uint64, big endian), sends as many bytes and their SHA-256
	resetProtocol  = "/interop/reset/1"  // reads 5 bytes, sends "part", resets as soon as the peer has said it has them
	watchProtocol  = "/interop/watch/1"  // sends the first byte back, reads to the end, makes an event of how it ended
)

const lazyPause = 6 * time.Second // longer than the five seconds after which stock py-libp2p gives up

func serveStreams(h host.Host) {
	for id, handle := range map[protocol.ID]func(network.Stream) error{
		echoProtocol:   func(s network.Stream) error { _, err := io.Copy(s, s); return err },
		sinkProtocol:   sink,
		lazyProtocol:   func(s network.Stream) error { time.Sleep(lazyPause); return sink(s) },
		sourceProtocol: source,
		resetProtocol:  resetHalfway,
		watchProtocol:  watch,
	} {
		h.SetStreamHandler(id, func(s network.Stream) {
			if handle(s) != nil {
				s.Reset()
				return
			}
			s.Close()
		})
	}
}

func sink(s network.Stream) error {
	hash := sha256.New()
	if _, err := io.Copy(hash, s); err != nil {
		return err
	}
	_, err := io.WriteString(s, hex.EncodeToString(hash.Sum(nil)))
	return err
}

func source(s network.Stream) error {
	var size uint64
	if err := binary.Read(s, binary.BigEndian, &size); err != nil {
		return err
	}
	hash := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(s, hash), rand.Reader, int64(size)); err != nil {
		return err
	}
	_, err := s.Write(hash.Sum(nil))
	return err
}

func resetHalfway(s network.Stream) error {
	if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
		return err
	}
	if _, err := s.Write([]byte("part")); err != nil {
		return err
	}
	io.ReadFull(s, make([]byte, 1)) // the peer has read the part: a reset may overtake data
	return s.Reset()
}

func watch(s network.Stream) error {
	first := make([]byte, 1)
	if _, err := io.ReadFull(s, first); err != nil {
		return err
	}
	if _, err := s.Write(first); err != nil {
		return err
	}
	size, err := io.Copy(io.Discard, s)
	emit(object{"event": "watched", "peer": s.Conn().RemotePeer().String(), "size": size + 1, "end": ending(err)})
	return err
}

// ending says in a word how reading came to its end.
func ending(err error) string {
	switch {
	case err == nil:
		return "end"
	case errors.Is(err, network.ErrReset):
		return "reset"
	default:
		return err.Error()
	}
}

func random(size int) []byte {
	data := make([]byte, size)
	rand.Read(data)
	return data
}

func (n *node) open(ctx context.Context, to peer.ID, id protocol.ID) (network.Stream, error) {
	s, err := n.host.NewStream(ctx, to, id)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	return s, s.SetDeadline(deadline)
}

// upload sends `size` bytes to the sink `protocol` and compares the hash that comes back after our half close.
func upload(n *node, ctx context.Context, to peer.ID, r request) (any, error) {
	s, err := n.open(ctx, to, protocol.ID(r.Protocol))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	data := random(r.Size)
	if _, err := s.Write(data); err != nil {
		return nil, err
	}
	if err := s.CloseWrite(); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(s)
	if err != nil {
		return nil, err
	}
	if want := sha256.Sum256(data); string(answer) != hex.EncodeToString(want[:]) {
		return nil, fmt.Errorf("the sink read something else: %q", answer)
	}
	return nil, nil
}

// download asks the source for `size` bytes, waits `pause_ms` before it reads, and compares the hash behind them.
func download(n *node, ctx context.Context, to peer.ID, r request) (any, error) {
	s, err := n.open(ctx, to, sourceProtocol)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := binary.Write(s, binary.BigEndian, uint64(r.Size)); err != nil {
		return nil, err
	}
	time.Sleep(time.Duration(r.PauseMS) * time.Millisecond)
	data, err := io.ReadAll(s)
	if err != nil {
		return nil, err
	}
	if len(data) != r.Size+sha256.Size {
		return nil, fmt.Errorf("%d bytes came", len(data))
	}
	if want := sha256.Sum256(data[:r.Size]); string(data[r.Size:]) != string(want[:]) {
		return nil, errors.New("other bytes than were sent")
	}
	return nil, nil
}

// echoMany has `count` streams open at once and sends `size` bytes there and back on each.
func echoMany(n *node, ctx context.Context, to peer.ID, r request) (any, error) {
	streams := make([]network.Stream, r.Count)
	for i := range streams {
		s, err := n.open(ctx, to, echoProtocol)
		if err != nil {
			return nil, fmt.Errorf("stream %d: %w", i, err)
		}
		defer s.Reset()
		streams[i] = s
	}
	var group errgroup.Group
	for _, s := range streams {
		data := random(r.Size)
		group.Go(func() error {
			if _, err := s.Write(data); err != nil {
				return err
			}
			return s.CloseWrite()
		})
		group.Go(func() error {
			back, err := io.ReadAll(s)
			if err == nil && string(back) != string(data) {
				err = errors.New("other bytes came back")
			}
			return err
		})
	}
	return nil, group.Wait()
}

// askForReset has the peer reset a stream in the middle and tells what was read and how it ended.
func askForReset(n *node, ctx context.Context, to peer.ID, _ request) (any, error) {
	s, err := n.open(ctx, to, resetProtocol)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	if _, err := s.Write([]byte("hello")); err != nil {
		return nil, err
	}
	part := make([]byte, 4)
	if _, err := io.ReadFull(s, part); err != nil {
		return nil, err
	}
	if _, err := s.Write([]byte("!")); err != nil {
		return nil, err
	}
	_, err = io.ReadAll(s)
	return object{"part": string(part), "end": ending(err)}, nil
}

// leave sends `size` bytes to the peer's watch, and once it reads, resets the stream ("abandon") or ends it ("finish").
func leave(n *node, ctx context.Context, to peer.ID, r request) (any, error) {
	s, err := n.open(ctx, to, watchProtocol)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write(random(r.Size)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		return nil, err
	}
	if r.Command == "abandon" {
		return nil, s.Reset()
	}
	return nil, s.Close()
}
