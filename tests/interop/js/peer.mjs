// A js-libp2p peer for the tests: options as JSON in the only argument, commands as lines of JSON on standard input, answers and
// events as lines of JSON on standard output. process.py drives it.
import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { dcutr } from '@libp2p/dcutr'
import { floodsub } from '@libp2p/floodsub'
import { gossipsub } from '@libp2p/gossipsub'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { preSharedKey } from '@libp2p/pnet'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { sha256 } from 'multiformats/hashes/sha2'
import { ask, describe, ON_ANY, PROTOCOL, server } from './exchange.mjs'

const DEADLINE_MS = 20_000
const SECURITY = { noise, tls }
const PUBSUB = { floodsub, gossipsub }

const options = JSON.parse(process.argv[2])
const text = new TextEncoder()
const emit = (message) => process.stdout.write(JSON.stringify(message) + '\n')
const soon = () => ({ signal: AbortSignal.timeout(DEADLINE_MS) })
const cid = async (key) => CID.createV1(raw.code, await sha256.digest(text.encode(key)))

const services = { identify: identify({ runOnLimitedConnection: true }), identifyPush: identifyPush(), ping: ping() }
if (options.pubsub) services.pubsub = PUBSUB[options.pubsub]({ emitSelf: false })
if (options.dht) {
  services.dht = kadDHT({
    protocol: '/dbc/kad/1.0.0',
    clientMode: options.dht === 'client',
    peerInfoMapper: passthroughMapper, // loopback addresses are all that there are
    allowQueryWithZeroPeers: true,
    initialQuerySelfInterval: 1000
  })
}
if (options.relay) services.relay = circuitRelayServer()
if (options.dcutr) services.dcutr = dcutr()

const node = await createLibp2p({
  privateKey: await generateKeyPair(options.key ?? 'secp256k1'),
  nodeInfo: { userAgent: 'js-interop/1' },
  addresses: { listen: options.listen, announce: options.announce ?? [] },
  transports: [tcp(), ...(options.circuit ? [circuitRelayTransport()] : [])],
  connectionEncrypters: [SECURITY[options.security ?? 'noise']()],
  streamMuxers: [yamux()],
  connectionProtector: options.psk
    ? preSharedKey({ psk: text.encode(`/key/swarm/psk/1.0.0/\n/base16/\n${options.psk}\n`) })
    : undefined,
  connectionGater: { denyDialMultiaddr: () => false }, // private addresses are refused otherwise
  connectionMonitor: { enabled: false }, // whether a dead peer is noticed is our side's to show
  services
})
const { dht, pubsub } = node.services

for (const name of ['peer:connect', 'peer:disconnect']) {
  node.addEventListener(name, ({ detail }) => emit({ event: name, peer: detail.toString() }))
}
node.addEventListener('peer:identify', ({ detail }) => emit({
  event: 'identify',
  peer: detail.peerId.toString(),
  agent: detail.agentVersion,
  version: detail.protocolVersion,
  protocols: detail.protocols,
  addresses: detail.listenAddrs.map(String),
  observed: detail.observedAddr?.toString(),
  signed: detail.signedPeerRecord != null
}))
pubsub?.addEventListener('message', ({ detail }) => emit({
  event: 'message', from: detail.from?.toString(), type: detail.type, data: new TextDecoder().decode(detail.data)
}))

/** The peers that a query of the DHT ends with, their addresses by id. */
async function found (query) {
  const peers = {}
  for await (const event of query) {
    if (event.name === 'QUERY_ERROR') continue // of one peer on the way
    const last = event.name === 'FINAL_PEER' ? [event.peer] : event.providers ?? []
    for (const peer of last) peers[peer.id] = peer.multiaddrs.map(String)
  }
  return peers
}

const commands = {
  dial: async ({ address }) => { await node.dial(multiaddr(address), soon()) },
  hangUp: ({ peer }) => node.hangUp(peerIdFromString(peer)),
  addresses: () => node.getMultiaddrs(),
  connections: () => node.getConnections().map((one) => ({
    peer: one.remotePeer,
    remote: one.remoteAddr,
    encryption: one.encryption,
    multiplexer: one.multiplexer,
    limited: one.limits != null
  })),
  known: async ({ peer }) => (await node.peerStore.get(peerIdFromString(peer))).protocols,
  serve: ({ protocol }) => node.handle(protocol, server(emit), ON_ANY),
  ping: ({ peer }) => node.services.ping.ping(peerIdFromString(peer), soon()),
  ask: async ({ peer, protocol, ...request }) => {
    const [connection] = node.getConnections(peerIdFromString(peer)) // node.dialProtocol would insist on one without limits
    const stream = await connection.newStream(protocol ?? PROTOCOL, { ...ON_ANY, ...soon() })
    return await ask(stream, request)
  },
  subscribers: ({ topic }) => pubsub.getSubscribers(topic),
  mesh: ({ topic }) => [...pubsub.mesh.get(topic) ?? []],
  publish: async ({ topic, messages }) => {
    for (const message of messages) await pubsub.publish(topic, text.encode(message))
  },
  findPeer: ({ peer }) => found(dht.findPeer(peerIdFromString(peer), soon())),
  provide: async ({ key }) => { await found(dht.provide(await cid(key), soon())) },
  findProviders: async ({ key }) => await found(dht.findProviders(await cid(key), soon()))
}

await node.handle(PROTOCOL, server(emit), ON_ANY)
if (options.topic) pubsub.subscribe(options.topic)
emit({ event: 'ready', peer: node.peerId, addresses: node.getMultiaddrs() })

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, command, ...request } = JSON.parse(line)
  try {
    emit({ event: 'answer', id, result: await commands[command](request) ?? null })
  } catch (error) {
    emit({ event: 'answer', id, error: describe(error) })
  }
}).on('close', () => process.exit()) // the test has gone
