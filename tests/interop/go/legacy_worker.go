package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"

	"aicn/tests/interop/gopeer/legacypb"

	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"
)

// chatProxy carries one HTTP exchange per stream.
const chatProxy = "/chat-proxy/0.0.1"

// answer serves a question from the topic.
func (l *legacy) answer(ctx context.Context, message *legacypb.Message, plain []byte) {
	switch message.Type {
	case peerIdentity:
		body := &legacypb.PeerIdentityBody{}
		if proto.Unmarshal(plain, body) == nil && body.GetReq() != nil {
			l.reply(ctx, message, &legacypb.PeerIdentityBody{Data: &legacypb.PeerIdentityBody_Res{Res: l.identity()}}, "")
		}
	case hostInfo:
		body := &legacypb.HostInfoBody{}
		if proto.Unmarshal(plain, body) == nil && body.GetReq() != nil {
			l.reply(ctx, message, &legacypb.HostInfoBody{Data: &legacypb.HostInfoBody_Res{Res: thisHost}}, "ok")
		}
	case aiProject:
		body := &legacypb.AIProjectBody{}
		if proto.Unmarshal(plain, body) == nil && body.GetReq() != nil {
			l.reply(ctx, message, &legacypb.AIProjectBody{Data: &legacypb.AIProjectBody_Res{Res: l.ownProjects(false)}}, "ok")
		}
	case chatCompletion:
		body := &legacypb.ChatCompletionBody{}
		if proto.Unmarshal(plain, body) == nil && body.GetReq() != nil {
			l.answerChat(ctx, message, body.GetReq())
		}
	case imageGeneration:
		body := &legacypb.ImageGenerationBody{}
		if proto.Unmarshal(plain, body) == nil && body.GetReq() != nil {
			l.answerImage(ctx, message, body.GetReq())
		}
	default:
		l.refuse(ctx, message, codeUnsupported, "Not supported")
	}
}

// reply sends a success.
func (l *legacy) reply(ctx context.Context, to *legacypb.Message, body proto.Message, text string) {
	plain, err := proto.Marshal(body)
	if err != nil {
		panic(err)
	}
	l.send(ctx, to.Header.NodeId, to.Header.Id, &legacypb.Message{Type: to.Type, ResultMessage: []byte(text)}, plain)
}

// refuse sends an error without body.
func (l *legacy) refuse(ctx context.Context, to *legacypb.Message, code int32, text string) {
	l.send(ctx, to.Header.NodeId, to.Header.Id, &legacypb.Message{Type: to.Type, ResultCode: code, ResultMessage: []byte(text)}, nil)
}

// refuseModel sends an error with the encrypted empty answer that errors of models have.
func (l *legacy) refuseModel(ctx context.Context, to *legacypb.Message, text string) {
	message := &legacypb.Message{Type: to.Type, ResultCode: codeModel, ResultMessage: []byte(text)}
	l.send(ctx, to.Header.NodeId, to.Header.Id, message, []byte{0x12, 0x00})
}

func (l *legacy) identity() *legacypb.PeerIdentityResponse {
	res := &legacypb.PeerIdentityResponse{ProtocolVersion: "aicn/0.0.1"}
	for _, address := range l.n.host.Addrs() {
		res.ListenAddrs = append(res.ListenAddrs, address.String())
	}
	for _, protocol := range l.n.host.Mux().Protocols() {
		res.Protocols = append(res.Protocols, string(protocol))
	}
	return res
}

var thisHost = &legacypb.HostInfoResponse{
	Os:     &legacypb.OSInfo{Os: "linux", Platform: "debian", KernelArch: "x86_64"},
	Cpu:    []*legacypb.CpuInfo{{ModelName: "Go CPU", TotalCores: 4, TotalThreads: 8}},
	Memory: &legacypb.MemoryInfo{TotalPhysicalBytes: 24 << 30, TotalUsableBytes: 23 << 30},
	Disk:   []*legacypb.DiskInfo{{DriveType: "SSD", SizeBytes: 1 << 38, Model: "unknown", SerialNumber: "unknown"}},
	Gpu:    []*legacypb.GpuInfo{{Vendor: "Go", Product: "Go GPU"}},
}

// endpoint is where a model of this node is asked; empty: there is none.
func (l *legacy) endpoint(project, model string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.projects[project][model]
}

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func (l *legacy) answerChat(ctx context.Context, message *legacypb.Message, req *legacypb.ChatCompletionRequest) {
	endpoint := l.endpoint(req.Project, req.Model)
	if endpoint == "" {
		l.refuseModel(ctx, message, "Model API configuration is empty")
		return
	}
	asked := object{"model": req.Model, "stream": false}
	if req.Wallet.Wallet != "" { // dies without wallet
		asked["wallet"], asked["signature"], asked["hash"] = req.Wallet.Wallet, req.Wallet.Signature, req.Wallet.Hash
	}
	messages := []chatMessage{}
	for _, one := range req.Messages {
		messages = append(messages, chatMessage{one.Role, string(one.Content)})
	}
	asked["messages"] = messages
	var said struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Created int64  `json:"created"`
		Choices []struct {
			Index        int32       `json:"index"`
			Message      chatMessage `json:"message"`
			FinishReason string      `json:"finish_reason"`
		} `json:"choices"`
		Usage struct {
			CompletionTokens int32 `json:"completion_tokens"`
			PromptTokens     int32 `json:"prompt_tokens"`
			TotalTokens      int32 `json:"total_tokens"`
		} `json:"usage"`
	}
	if err := post(endpoint, asked, &said); err != nil {
		l.refuseModel(ctx, message, err.Error())
		return
	}
	if said.Code != 0 {
		l.refuseModel(ctx, message, said.Message)
		return
	}
	res := &legacypb.ChatCompletionResponse{Created: said.Created, Usage: &legacypb.ChatUsage{
		CompletionTokens: said.Usage.CompletionTokens, PromptTokens: said.Usage.PromptTokens, TotalTokens: said.Usage.TotalTokens}}
	for _, choice := range said.Choices {
		res.Choices = append(res.Choices, &legacypb.ChatChoice{Index: choice.Index, FinishReason: choice.FinishReason,
			Message: &legacypb.ChatMessage{Role: choice.Message.Role, Content: []byte(choice.Message.Content)}})
	}
	plain, err := proto.Marshal(&legacypb.ChatCompletionBody{Data: &legacypb.ChatCompletionBody_Res{Res: res}})
	if err != nil {
		return // the endpoint's text is not UTF-8
	}
	reply := &legacypb.Message{Type: message.Type, Header: &legacypb.MessageHeader{Timestamp: said.Created}}
	l.send(ctx, message.Header.NodeId, message.Header.Id, reply, plain)
}

// answerImage answers with a CID for each picture that the endpoint made; nothing is stored here.
func (l *legacy) answerImage(ctx context.Context, message *legacypb.Message, req *legacypb.ImageGenerationRequest) {
	endpoint := l.endpoint(req.Project, req.Model)
	if endpoint == "" {
		l.refuseModel(ctx, message, "Model API configuration is empty")
		return
	}
	if req.IpfsNode == "" {
		l.refuseModel(ctx, message, "No ipfs storage server")
		return
	}
	_ = req.Wallet.Wallet // dies without wallet
	res := &legacypb.ImageGenerationResponse{IpfsNode: req.IpfsNode}
	for range req.Number {
		res.Choices = append(res.Choices, &legacypb.ImageChoice{Cid: "QmUsxJhQ13Gifj2iX9kTfzYDD6VsCL7UkdjqumPd9V2vKz", ImageName: "knhfkmpilha9l5f2.png"})
	}
	l.reply(ctx, message, &legacypb.ImageGenerationBody{Data: &legacypb.ImageGenerationBody_Res{Res: res}}, "ok")
}

var endpoints = &http.Client{Timeout: 2 * time.Minute}

func post(url string, asked any, said any) error {
	data, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	response, err := endpoints.Post(url, "application/json", bytes.NewReader(data))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(said)
}

// serveProxy passes a request on to the endpoint, and what that answers back as it comes; a reset says that there is none.
func (l *legacy) serveProxy(s network.Stream) {
	request, err := http.ReadRequest(bufio.NewReader(s))
	if err != nil {
		s.Reset()
		return
	}
	query := request.URL.Query()
	endpoint, err := url.Parse(l.endpoint(query.Get("project"), query.Get("model")))
	if err != nil || endpoint.Host == "" {
		s.Reset()
		return
	}
	query.Del("project")
	query.Del("model")
	endpoint.RawQuery = query.Encode()
	request.URL, request.Host, request.RequestURI = endpoint, endpoint.Host, ""
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		s.Reset()
		return
	}
	defer response.Body.Close()
	if response.Write(flushed{s}) != nil && response.ContentLength >= 0 {
		s.Reset()
		return
	}
	s.Close()
}

// flushed hides io.ReaderFrom from net/http, which would collect the stream before it writes.
type flushed struct{ io.Writer }
