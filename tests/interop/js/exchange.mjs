// The protocol that the tests speak on streams, as its server and as its client. See Exchange in process.py for the modes.
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { byteStream } from '@libp2p/utils'

export const PROTOCOL = '/aicn/interop/1'
// relayed connections count as limited ones; js-libp2p uses those only when asked to
export const ON_ANY = { runOnLimitedConnection: true, maxInboundStreams: 4096, maxOutboundStreams: 4096 }

const PIECE = 64 << 10 // bytes handed to the muxer at once
const sha256 = (data) => createHash('sha256').update(data).digest('hex')
export const describe = (error) => `${error?.name ?? 'Error'}: ${error?.message ?? error}`

/** Send all of it, waiting while the stream is full. */
async function sendAll (stream, data) {
  for (let at = 0; at < data.length; at += PIECE) {
    if (!stream.send(data.subarray(at, at + PIECE))) await stream.onDrain()
  }
}

/**
 * What comes on a stream; `end` says afterwards how it ended.
 *
 * Not the stream's own async iterator: that one waits for ever where the peer had finished before the iteration began.
 */
class Reader {
  constructor (stream) {
    this.stream = stream
    this.bytes = byteStream(stream, { maxBufferSize: 64 << 20 })
    this.buffer = Buffer.alloc(0)
    this.end = null
  }

  /** One more piece; false at the end, an exception when the stream is reset. */
  async more () {
    const piece = await this.bytes.read()
    if (piece != null) {
      this.buffer = Buffer.concat([this.buffer, piece.subarray()])
      return true
    }
    if (['reset', 'aborted'].includes(this.stream.status)) throw new Error(`the stream is ${this.stream.status}`)
    this.end = 'eof'
    return false
  }

  async line () {
    let at
    while ((at = this.buffer.indexOf(10)) < 0) {
      if (!await this.more()) throw new Error('the stream ended before its first line did')
    }
    const line = this.buffer.subarray(0, at).toString()
    this.buffer = this.buffer.subarray(at + 1)
    return line
  }

  async rest () {
    const parts = [this.buffer]
    this.buffer = Buffer.alloc(0)
    while (await this.more()) {
      parts.push(this.buffer)
      this.buffer = Buffer.alloc(0)
    }
    return Buffer.concat(parts)
  }
}

/** The server: does what the first line asks for, and tells `emit` how it ended. */
export function server (emit) {
  return async (stream, connection) => {
    const reader = new Reader(stream)
    const served = { peer: connection.remotePeer.toString(), remote: connection.remoteAddr.toString() }
    try {
      const [mode, argument] = (served.request = await reader.line()).split(' ')
      if (mode === 'digest') {
        const data = await reader.rest()
        await sendAll(stream, Buffer.concat([Buffer.from(sha256(data) + '\n'), data]))
        await stream.close()
      } else if (mode === 'first') { // our half ends before theirs
        await sendAll(stream, Buffer.from('done\n'))
        await stream.close()
        served.digest = sha256(await reader.rest())
      } else if (mode === 'hold') {
        await sendAll(stream, Buffer.from('x'))
        await reader.rest()
        await stream.close()
      } else if (mode === 'reset') {
        await sendAll(stream, Buffer.alloc(Number(argument), 'x'))
        await reader.line() // the client has it
        stream.abort(new Error('as asked'))
      } else if (mode === 'slow') {
        stream.pause()
        await sleep(Number(argument))
        stream.resume()
        await sendAll(stream, Buffer.from(sha256(await reader.rest()) + '\n'))
        await stream.close()
      } else throw new Error(`no such mode: ${mode}`)
      served.end = reader.end
    } catch (error) {
      served.end = describe(error)
      stream.abort(error)
    }
    emit({ event: 'served', ...served })
  }
}

/** The client: sends `line` and `size` bytes, then reads to the end; how that went. */
export async function ask (stream, { line, size = 0, pauseMs = 0, abort = false, acknowledge = 0, answerFirst = false }) {
  const data = randomBytes(size)
  const reader = new Reader(stream)
  const result = { sent: sha256(data) }
  try {
    await sendAll(stream, Buffer.from(line + '\n'))
    if (answerFirst) result.first = (await reader.rest()).toString()
    await sendAll(stream, data)
    if (abort) {
      await reader.more()
      stream.abort(new Error('as asked'))
      return result
    }
    if (acknowledge > 0) {
      while (reader.buffer.length < acknowledge && await reader.more());
      await sendAll(stream, Buffer.from('ok\n'))
    } else {
      await stream.close() // our half of it
    }
    if (pauseMs > 0) {
      stream.pause()
      await sleep(pauseMs)
      stream.resume()
    }
    const answer = await reader.rest()
    const at = answer.indexOf(10)
    result.digest = answer.subarray(0, Math.max(at, 0)).toString() // what the server says it got
    result.received = sha256(answer.subarray(at + 1))
    result.length = answer.length
    result.end = reader.end
  } catch (error) {
    result.end = describe(error)
  }
  return result
}
