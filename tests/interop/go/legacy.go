package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"aicn/tests/interop/gopeer/legacypb"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"
)

// Types and codes of messages, and the bits of a node's type.
const (
	peerIdentity, hostInfo, aiProject, chatCompletion, imageGeneration = 0, 1, 2, 16, 17
	codeModel, codeUnsupported, codeDecrypt                            = 1006, 1010, 1013
	typePublic, typeDirectory, typeModel                               = 1, 2, 4
)

// legacy is the part of a peer that speaks the existing network's protocol, with its habits: a message without header, or an answer
// without the submessages that it looks into, ends the whole process.
type legacy struct {
	n        *node
	key      crypto.PrivKey
	public   []byte // libp2p protobuf
	nodeType uint32

	mu        sync.Mutex
	projects  map[string]map[string]string // project → model → endpoint
	waiting   map[string]chan *answered    // by request id
	directory map[string]*heard            // by node id, on trust
}

type heard struct {
	at       time.Time
	projects map[string][]string
	nodeType uint32
}

// answered is an answer's head and its decrypted body.
type answered struct {
	code int32
	text string
	body []byte
}

func newLegacy(n *node, s *settings, key crypto.PrivKey) (*legacy, error) {
	public, err := crypto.MarshalPublicKey(key.GetPublic())
	l := &legacy{n: n, key: key, public: public,
		projects: map[string]map[string]string{}, waiting: map[string]chan *answered{}, directory: map[string]*heard{}}
	if s.relay != "" {
		l.nodeType |= typePublic
	}
	if s.dhtMode == "server" {
		l.nodeType |= typeDirectory
	}
	n.host.SetStreamHandler(chatProxy, l.serveProxy)
	return l, err
}

// hear takes in the topic; every message in a goroutine of its own, as the original.
func (l *legacy) hear(ctx context.Context, subscription *pubsub.Subscription) {
	for {
		message, err := subscription.Next(ctx)
		if err != nil {
			return // the peer ends
		}
		go l.take(ctx, message.Data)
	}
}

func (l *legacy) take(ctx context.Context, data []byte) {
	message := &legacypb.Message{}
	if proto.Unmarshal(data, message) != nil {
		return
	}
	header := message.Header
	if header.NodeId == l.id() { // dies without header
		return
	}
	if header.Id == "" && header.Receiver == "" {
		l.takeHeartbeat(message)
		return
	}
	if header.Receiver != l.id() {
		return
	}
	body := message.Body
	if len(header.NodePubKey) > 0 && len(body) > 0 {
		var err error
		if body, err = l.open(header.NodePubKey, body); err != nil {
			l.refuse(ctx, message, codeDecrypt, "Decrypt error")
			return
		}
	}
	l.mu.Lock()
	waiting := l.waiting[header.Id]
	delete(l.waiting, header.Id)
	l.mu.Unlock()
	if waiting != nil {
		waiting <- &answered{message.ResultCode, string(message.ResultMessage), body}
		return
	}
	l.answer(ctx, message, body)
}

func (l *legacy) takeHeartbeat(message *legacypb.Message) {
	body := &legacypb.AIProjectBody{}
	if message.Type != aiProject || proto.Unmarshal(message.Body, body) != nil || body.GetRes() == nil {
		return
	}
	one := &heard{at: time.Now(), projects: map[string][]string{}, nodeType: body.GetRes().NodeType}
	for _, project := range body.GetRes().Projects {
		one.projects[project.Project] = models(project)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.directory[message.Header.NodeId] = one
}

func models(project *legacypb.AIProjectOfNode) []string {
	names := []string{}
	for _, model := range project.Models {
		names = append(names, string(model))
	}
	return names
}

// beat says it again and again.
func (l *legacy) beat(ctx context.Context, every time.Duration) {
	for ctx.Err() == nil {
		time.Sleep(every)
		l.heartbeat(ctx)
	}
}

// heartbeat says at once what this node has.
func (l *legacy) heartbeat(ctx context.Context) error {
	body := &legacypb.AIProjectBody{Data: &legacypb.AIProjectBody_Res{Res: l.ownProjects(true)}}
	data, err := proto.Marshal(body)
	if err != nil {
		return err
	}
	return l.publish(ctx, &legacypb.Message{Header: l.header("", ""), Type: aiProject, Body: data, ResultMessage: []byte("heartbeat")})
}

func (l *legacy) ownProjects(withType bool) *legacypb.AIProjectResponse {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := &legacypb.AIProjectResponse{}
	kind := l.nodeType
	for project, models := range l.projects {
		one := &legacypb.AIProjectOfNode{Project: project}
		for model := range models {
			one.Models = append(one.Models, []byte(model))
			kind |= typeModel
		}
		own.Projects = append(own.Projects, one)
	}
	if withType {
		own.NodeType = kind
	}
	return own
}

// ask sends a question to a node and waits for its answer; encrypted when the node's key is known, which its id tells.
func (l *legacy) ask(ctx context.Context, to peer.ID, kind int32, question proto.Message) (*answered, error) {
	plain, err := proto.Marshal(question)
	if err != nil {
		return nil, err
	}
	id := randomID()
	answer := make(chan *answered, 1)
	l.mu.Lock()
	l.waiting[id] = answer
	l.mu.Unlock()
	if err := l.send(ctx, to.String(), id, &legacypb.Message{Type: kind}, plain); err != nil {
		return nil, err
	}
	select {
	case got := <-answer:
		return got, nil
	case <-ctx.Done():
		return nil, errors.New("no answer")
	}
}

// send completes a message to `to`: header, encrypted body.
func (l *legacy) send(ctx context.Context, to, id string, message *legacypb.Message, plain []byte) error {
	timestamp := int64(0)
	if message.Header != nil {
		timestamp = message.Header.Timestamp
	}
	message.Header = l.header(id, to)
	if timestamp != 0 {
		message.Header.Timestamp = timestamp
	}
	if plain != nil {
		receiver, err := peer.Decode(to)
		if err != nil {
			return err
		}
		public, err := receiver.ExtractPublicKey()
		if err != nil {
			return err
		}
		packed, err := crypto.MarshalPublicKey(public)
		if err != nil {
			return err
		}
		if message.Body, err = l.seal(packed, plain); err != nil {
			return err
		}
		message.Header.NodePubKey = l.public
	}
	return l.publish(ctx, message)
}

func (l *legacy) header(id, receiver string) *legacypb.MessageHeader {
	return &legacypb.MessageHeader{Timestamp: time.Now().Unix(), Id: id, NodeId: l.id(), Receiver: receiver}
}

func (l *legacy) publish(ctx context.Context, message *legacypb.Message) error {
	data, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	return l.n.topic.Publish(ctx, data)
}

func (l *legacy) id() string { return l.n.host.ID().String() }

func randomID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ---- encryption ----

func (l *legacy) cipher(public []byte) (cipher.AEAD, error) {
	key, err := crypto.UnmarshalPublicKey(public)
	if err != nil {
		return nil, err
	}
	raw, err := key.Raw()
	if err != nil {
		return nil, err
	}
	point, err := secp256k1.ParsePubKey(raw)
	if err != nil {
		return nil, err
	}
	own, err := l.key.Raw()
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secp256k1.GenerateSharedSecret(secp256k1.PrivKeyFromBytes(own), point))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (l *legacy) seal(public, plain []byte) ([]byte, error) {
	gcm, err := l.cipher(public)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, gcm.NonceSize())
	rand.Read(nonce)
	return gcm.Seal(nonce, nonce, plain, nil), nil
}

func (l *legacy) open(public, sealed []byte) ([]byte, error) {
	gcm, err := l.cipher(public)
	if err != nil {
		return nil, err
	}
	if len(sealed) < gcm.NonceSize()+gcm.Overhead() {
		return nil, errors.New("too short")
	}
	return gcm.Open(nil, sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():], nil)
}
