"""The shapes of the v0 HTTP API (spec 1), request and answer, as pure functions; one module per area.

Decoders take the bytes of a body and raise MalformedBody when they are no JSON, InvalidRequest naming the field (such as
`models[1].api`) when it is the wrong JSON. Unknown members are ignored; in a chat they go on to the model. Encoders give bytes, or
values for `answers.encode_json`.
"""
