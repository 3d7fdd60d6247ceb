// js-libp2p 3 wants Node 22, but all that it misses on Node 20 is this: node --import ./polyfill.mjs …
Promise.withResolvers ??= function () {
  let resolve
  let reject
  const promise = new this((...settle) => { [resolve, reject] = settle })
  return { promise, resolve, reject }
}
