# What `codec` and the tests know of the compiled readers: they are the pure ones, and `take`, which
# is None for what goes to those.

from edge.wire import request_reader, response_reader
from edge.wire.response_head import ResponseHead

class RequestReader(request_reader.RequestReader):
    def take(self, data: bytes) -> request_reader.ReadRequest | None: ...

class ResponseReader(response_reader.ResponseReader):
    def take(self, data: bytes, request_id_line: bytes) -> tuple[ResponseHead, bytes] | None: ...
