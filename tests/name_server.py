"""A name server on loopback, over UDP and TCP, that says what the test has told it to."""

import contextlib
import selectors
import socket
import threading
from collections import Counter
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from edge.settings.syntax import Address
from tests.harness import WAIT, Conversation

UDP_LIMIT: Final = 512
"""Bytes of an answer over UDP to who says nothing else (RFC 1035 section 4.2.1)."""

Question = tuple[str, str]
"""A name and a type: ("app.test", "A")."""


class NameServer:
    """Answers NXDOMAIN to what it was not told of."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._told = threading.Condition()
        self._records: dict[str, tuple[int, tuple[str, ...]]] = {}
        self._silent: set[Question] = set()
        self._failing: set[str] = set()
        self._asked: list[Question] = []
        self._noticed: Counter[Question] = Counter()  # how many the test has waited for
        self._unanswered: list[tuple[dns.message.QueryMessage, tuple[str, int]]] = []
        # In this order: the ports of UDP are mostly free.
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.address = Address(*self._tcp.getsockname())
        self._udp = socket.socket(type=socket.SOCK_DGRAM)
        self._udp.bind(self.address)
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="name server", daemon=True)
        self._thread.start()
        conversation.closes_at_end(self.stops)

    def knows(self, name: str, *addresses: str, ttl: int = 60) -> None:
        """From now on `name` has these addresses; what it was asked in vain it answers now."""
        with self._told:
            self._records[name] = (ttl, addresses)
            self._failing.discard(name)
            self._silent -= {(name, "A"), (name, "AAAA")}
            waiting, self._unanswered = self._unanswered, []
            for query, sender in waiting:
                self._udp_answer(query, sender)
        self.conversation.says("name server", f"knows {name} as {addresses}")

    def forgets(self, name: str) -> None:
        """From now on `name` does not exist."""
        with self._told:
            del self._records[name]
            self._silent -= {(name, "A"), (name, "AAAA")}
        self.conversation.says("name server", f"forgets {name}")

    def is_silent_about(self, name: str, *families: str) -> None:
        """From now on questions for `name` get no answer, or those for these families only."""
        with self._told:
            self._silent |= {(name, family) for family in families or ("A", "AAAA")}
        self.conversation.says("name server", f"is silent about {name}")

    def fails(self, name: str) -> None:
        """From now on questions for `name` are answered with SERVFAIL."""
        with self._told:
            self._failing.add(name)
        self.conversation.says("name server", f"fails for {name}")

    def is_asked(self, name: str, family: str = "A") -> None:
        """Returns when there is one more question for `name` than at the last call."""
        question = (name, family)
        with self._told:
            found = self._told.wait_for(
                lambda: self._asked.count(question) > self._noticed[question], WAIT
            )
            self._noticed[question] = self._asked.count(question)
        if not found:
            self.conversation.fails(f"the name server waited {WAIT} s for {name} {family}")
        self.conversation.says("name server", f"is asked for {name} {family}")

    def asked(self, name: str, family: str = "A") -> int:
        """How often it was asked for `name` so far."""
        with self._told:
            return self._asked.count((name, family))

    def stops(self) -> None:
        """Answers nothing more, and its port is closed."""
        if self._thread.is_alive():
            self._stop.send(b".")
            self._thread.join(WAIT)
        for sock in (self._udp, self._tcp, self._stop, self._stopped):
            sock.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            for sock in (self._udp, self._tcp, self._stopped):
                selector.register(sock, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._stopped:
                        return
                    with contextlib.suppress(OSError, dns.exception.DNSException):
                        if key.fileobj is self._udp:
                            self._serve_udp()
                        else:
                            self._serve_tcp()

    def _serve_udp(self) -> None:
        raw, sender = self._udp.recvfrom(4096)
        query = dns.message.from_wire(raw)
        assert isinstance(query, dns.message.QueryMessage)
        with self._told:
            question = _question(query)
            if question in self._silent:
                self._unanswered.append((query, sender))
            else:
                self._udp_answer(query, sender)
            self._asked.append(question)
            self._told.notify_all()

    def _udp_answer(self, query: dns.message.QueryMessage, sender: tuple[str, int]) -> None:
        if _question(query) in self._silent:
            self._unanswered.append((query, sender))
            return
        with contextlib.suppress(OSError):
            self._udp.sendto(self._answer(query, UDP_LIMIT), sender)

    def _serve_tcp(self) -> None:
        connection, _ = self._tcp.accept()
        with connection:
            connection.settimeout(WAIT)
            stream = connection.makefile("rb")
            query = dns.message.from_wire(stream.read(int.from_bytes(stream.read(2), "big")))
            assert isinstance(query, dns.message.QueryMessage)
            with self._told:
                raw = self._answer(query, 0xFFFF)
            connection.sendall(len(raw).to_bytes(2, "big") + raw)

    def _answer(self, query: dns.message.QueryMessage, limit: int) -> bytes:
        name, family = _question(query)
        answer = dns.message.make_response(query, recursion_available=True)
        ttl, addresses = self._records.get(name, (0, ()))
        wanted = [each for each in addresses if (":" in each) == (family == "AAAA")]
        if name in self._failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name not in self._records:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif wanted:
            owner = query.question[0].name
            answer.answer.append(dns.rrset.from_text(owner, ttl, "IN", family, *wanted))
        try:
            return answer.to_wire(max_size=limit)
        except dns.exception.TooBig:
            answer.answer.clear()
            answer.flags |= dns.flags.TC
            return answer.to_wire()


def _question(query: dns.message.QueryMessage) -> Question:
    asked = query.question[0]
    return asked.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(asked.rdtype)
