"""What /openapi.json tells of the v0 API, one module per area: pydantic models of every request and answer, and the calls they belong to.

For documentation only: the decoders of aicn/wire/v0 read requests, and keep their bytes; tests hold the two together. Nothing here
is imported before somebody asks for the document, since pydantic costs 0.1 s and some megabytes. `examples/` has the examples of
spec 1, one file per call.
"""
