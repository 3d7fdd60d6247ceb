package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"aicn/tests/interop/gopeer/legacypb"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"
)

func init() {
	for name, run := range map[string]func(l *legacy, ctx context.Context, to peer.ID, r request) (any, error){
		"register":    (*legacy).register,
		"unregister":  (*legacy).unregister,
		"heartbeat":   func(l *legacy, ctx context.Context, _ peer.ID, _ request) (any, error) { return nil, l.heartbeat(ctx) },
		"directory":   (*legacy).showDirectory,
		"identity":    (*legacy).askIdentity,
		"host-info":   (*legacy).askHost,
		"projects":    (*legacy).askProjects,
		"chat":        (*legacy).chat,
		"image":       (*legacy).image,
		"proxy-chat":  (*legacy).proxyChat,
		"load":        (*legacy).load,
		"publish-hex": (*legacy).publishHex,
	} {
		commands[name] = func(n *node, ctx context.Context, to peer.ID, r request) (any, error) {
			if n.legacy == nil {
				return nil, errors.New("needs -legacy")
			}
			return run(n.legacy, ctx, to, r)
		}
	}
}

// register offers `model` of `project` at the endpoint `url`, and says so at once.
func (l *legacy) register(ctx context.Context, _ peer.ID, r request) (any, error) {
	l.mu.Lock()
	if l.projects[r.Project] == nil {
		l.projects[r.Project] = map[string]string{}
	}
	l.projects[r.Project][r.Model] = r.URL
	l.mu.Unlock()
	return nil, l.heartbeat(ctx)
}

func (l *legacy) unregister(ctx context.Context, _ peer.ID, r request) (any, error) {
	l.mu.Lock()
	delete(l.projects, r.Project)
	l.mu.Unlock()
	return nil, l.heartbeat(ctx)
}

// showDirectory gives what heartbeats have told, by node.
func (l *legacy) showDirectory(context.Context, peer.ID, request) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := object{}
	for id, one := range l.directory {
		all[id] = object{"projects": one.projects, "node_type": one.nodeType, "age_s": time.Since(one.at).Seconds()}
	}
	return all, nil
}

func (l *legacy) askIdentity(ctx context.Context, to peer.ID, _ request) (any, error) {
	body := &legacypb.PeerIdentityBody{}
	question := &legacypb.PeerIdentityBody{Data: &legacypb.PeerIdentityBody_Req{Req: &legacypb.Empty{}}}
	answer, err := l.ask(ctx, to, peerIdentity, question)
	if err != nil || answer.code != 0 {
		return refusal(answer), err
	}
	if err := proto.Unmarshal(answer.body, body); err != nil {
		return nil, err
	}
	res := body.GetRes()
	return object{"code": 0, "message": answer.text, "protocol_version": res.ProtocolVersion, "agent_version": res.AgentVersion,
		"addresses": res.ListenAddrs, "protocols": res.Protocols}, nil
}

func (l *legacy) askHost(ctx context.Context, to peer.ID, _ request) (any, error) {
	body := &legacypb.HostInfoBody{}
	answer, err := l.ask(ctx, to, hostInfo, &legacypb.HostInfoBody{Data: &legacypb.HostInfoBody_Req{Req: &legacypb.Empty{}}})
	if err != nil || answer.code != 0 {
		return refusal(answer), err
	}
	if err := proto.Unmarshal(answer.body, body); err != nil {
		return nil, err
	}
	res := body.GetRes() // dies without os and memory
	return object{"code": 0, "message": answer.text, "os": res.Os.Os, "memory": res.Memory.TotalPhysicalBytes, "cpus": len(res.Cpu)}, nil
}

func (l *legacy) askProjects(ctx context.Context, to peer.ID, _ request) (any, error) {
	body := &legacypb.AIProjectBody{}
	answer, err := l.ask(ctx, to, aiProject, &legacypb.AIProjectBody{Data: &legacypb.AIProjectBody_Req{Req: &legacypb.Empty{}}})
	if err != nil || answer.code != 0 {
		return refusal(answer), err
	}
	if err := proto.Unmarshal(answer.body, body); err != nil {
		return nil, err
	}
	projects := map[string][]string{}
	for _, project := range body.GetRes().Projects {
		projects[project.Project] = models(project)
	}
	return object{"code": 0, "message": answer.text, "projects": projects}, nil
}

// chat sends `text` over the topic.
func (l *legacy) chat(ctx context.Context, to peer.ID, r request) (any, error) {
	question := &legacypb.ChatCompletionRequest{Project: r.Project, Model: r.Model,
		Messages: []*legacypb.ChatMessage{{Role: "user", Content: []byte(r.Text)}}, Wallet: &legacypb.Wallet{Wallet: r.Wallet, Signature: r.Signature, Hash: r.Hash}}
	answer, err := l.ask(ctx, to, chatCompletion, &legacypb.ChatCompletionBody{Data: &legacypb.ChatCompletionBody_Req{Req: question}})
	if err != nil || answer.code != 0 {
		return refusal(answer), err
	}
	body := &legacypb.ChatCompletionBody{}
	if err := proto.Unmarshal(answer.body, body); err != nil {
		return nil, err
	}
	res := body.GetRes()
	texts := []string{}
	for _, choice := range res.Choices {
		texts = append(texts, string(choice.Message.Content))
	}
	return object{"code": 0, "message": answer.text, "texts": texts, "created": res.Created, "total_tokens": res.Usage.TotalTokens}, nil // dies without usage
}

// image asks for `count` pictures of `text`, stored at the IPFS node `url`.
func (l *legacy) image(ctx context.Context, to peer.ID, r request) (any, error) {
	question := &legacypb.ImageGenerationRequest{Project: r.Project, Model: r.Model, Prompt: r.Text, Number: int32(r.Count),
		Size: "64x64", Width: 64, Height: 64, IpfsNode: r.URL, Wallet: &legacypb.Wallet{}}
	answer, err := l.ask(ctx, to, imageGeneration, &legacypb.ImageGenerationBody{Data: &legacypb.ImageGenerationBody_Req{Req: question}})
	if err != nil || answer.code != 0 {
		return refusal(answer), err
	}
	body := &legacypb.ImageGenerationBody{}
	if err := proto.Unmarshal(answer.body, body); err != nil {
		return nil, err
	}
	cids := []string{}
	for _, choice := range body.GetRes().Choices {
		cids = append(cids, choice.Cid)
	}
	return object{"code": 0, "message": answer.text, "cids": cids, "ipfs_node": body.GetRes().IpfsNode}, nil
}

func refusal(answer *answered) any {
	if answer == nil {
		return nil
	}
	return object{"code": answer.code, "message": answer.text, "body": hex.EncodeToString(answer.body)}
}

// proxyRequest is the request as the original's API writes it on a stream.
func proxyRequest(project, model string, body []byte) []byte {
	query := url.Values{"project": {project}, "model": {model}}
	head := fmt.Sprintf("POST /api/v0/chat/completion?%s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Go-http-client/1.1\r\n"+
		"Content-Length: %d\r\nAccept-Encoding: identity\r\nContent-Type: application/json\r\n\r\n", query.Encode(), len(body))
	return append([]byte(head), body...)
}

func (r request) chatBody() []byte {
	body, _ := json.Marshal(object{"model": r.Model, "messages": []chatMessage{{"user", r.Text}}, "stream": r.Stream})
	return body
}

// proxyChat sends `text` over a stream of its own. With `count` it hangs up after so many pieces.
func (l *legacy) proxyChat(ctx context.Context, to peer.ID, r request) (any, error) {
	began := time.Now()
	s, err := l.n.host.NewStream(ctx, to, protocol.ID(chatProxy))
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	if deadline, ok := ctx.Deadline(); ok {
		s.SetDeadline(deadline)
	}
	if _, err := s.Write(proxyRequest(r.Project, r.Model, r.chatBody())); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(s), nil)
	if err != nil {
		return nil, err
	}
	pieces, buffer := []object{}, make([]byte, 1<<16)
	for {
		n, err := response.Body.Read(buffer)
		if n > 0 {
			pieces = append(pieces, object{"ms": time.Since(began).Milliseconds(), "text": string(buffer[:n])})
		}
		if r.Count > 0 && len(pieces) >= r.Count {
			return object{"status": response.StatusCode, "pieces": pieces, "end": "hung up"}, nil
		}
		if err != nil {
			return object{"status": response.StatusCode, "reason": response.Status, "headers": response.Header, "pieces": pieces, "end": err.Error()}, nil
		}
	}
}

// publishHex publishes the bytes `text` (hex), whatever they are.
func (l *legacy) publishHex(ctx context.Context, _ peer.ID, r request) (any, error) {
	data, err := hex.DecodeString(r.Text)
	if err != nil {
		return nil, err
	}
	return nil, l.n.topic.Publish(ctx, data)
}

// load sends `count` chats to a node from `clients` clients; streamed ones over streams, plain ones over the topic, with `pause_ms` between
// publications. It returns the seconds it took, how many were lost, and the milliseconds of each, of first pieces, and of gaps.
func (l *legacy) load(ctx context.Context, to peer.ID, r request) (any, error) {
	var mu sync.Mutex
	times, firsts, gaps, failed := []float64{}, []float64{}, []float64{}, map[string]int{}
	numbers := make(chan int)
	began := time.Now()
	var clients sync.WaitGroup
	for client := range max(1, r.Clients) {
		clients.Add(1)
		go func() {
			defer clients.Done()
			time.Sleep(time.Duration(client) * time.Millisecond) // more than 32 messages at once do not fit into our own queue
			for range numbers {
				start := time.Now()
				first, apart, err := l.one(ctx, to, r)
				mu.Lock()
				if err != nil {
					failed[err.Error()]++
				} else {
					times = append(times, ms(time.Since(start)))
					firsts = append(firsts, first)
					gaps = append(gaps, apart...)
				}
				mu.Unlock()
			}
		}()
	}
	for number := range r.Count {
		numbers <- number
		time.Sleep(time.Duration(r.PauseMS) * time.Millisecond)
	}
	close(numbers)
	clients.Wait()
	return object{"seconds": time.Since(began).Seconds(), "times_ms": times, "firsts_ms": firsts, "gaps_ms": gaps, "failed": failed}, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (l *legacy) one(ctx context.Context, to peer.ID, r request) (first float64, gaps []float64, err error) {
	if !r.Stream {
		answer, err := l.chat(ctx, to, r)
		if err == nil && fmt.Sprint(answer.(object)["code"]) != "0" {
			err = fmt.Errorf("%v", answer)
		}
		return 0, nil, err
	}
	began := time.Now()
	s, err := l.n.host.NewStream(network.WithNoDial(ctx, "load"), to, protocol.ID(chatProxy))
	if err != nil {
		return 0, nil, err
	}
	defer s.Close()
	if _, err := s.Write(proxyRequest(r.Project, r.Model, r.chatBody())); err != nil {
		return 0, nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(s), nil)
	if err != nil {
		return 0, nil, err
	}
	last, buffer, ended := time.Time{}, make([]byte, 1<<16), false
	for {
		n, err := response.Body.Read(buffer)
		now := time.Now()
		if n > 0 {
			ended = ended || bytes.Contains(buffer[:n], []byte("[DONE]"))
			if last.IsZero() {
				first = ms(now.Sub(began))
			} else {
				gaps = append(gaps, ms(now.Sub(last)))
			}
			last = now
		}
		if err == io.EOF && !ended {
			return 0, nil, errors.New("a short answer")
		}
		if err == io.EOF {
			return first, gaps, nil
		}
		if err != nil {
			return 0, nil, err
		}
	}
}
