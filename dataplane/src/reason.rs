//! Why a packet ended as it did: one enum feeds the verdict, the counters, the
//! metrics, the command line and the tests.
//!
//! Every packet ends in exactly one reason, so received = forwarded + passed +
//! dropped + taken. Beside the ends there are *events*, counted in addition.

/// What became of a packet, or that a reason is an event and no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Sent on by XDP.
    Forwarded,
    /// Left to the kernel's stack.
    Passed,
    /// Dropped or refused.
    Dropped,
    /// For the gateway itself, which has taken it in.
    Taken,
    /// Counted beside the packet's end.
    Event,
}

macro_rules! define {
    ($($name:ident $text:literal $kind:ident $doc:literal;)*) => {
        /// The reasons; the number is the index in [`crate::abi::maps::COUNTERS`].
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $doc] $name,)*
        }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable name, as the command line, the API and the metrics print it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// One line for people.
            pub const fn describe(self) -> &'static str {
                match self { $(Reason::$name => $doc,)* }
            }

            /// What became of the packet.
            #[inline(always)]
            pub const fn kind(self) -> Kind {
                match self { $(Reason::$name => Kind::$kind,)* }
            }
        }
    };
}

#[cfg(not(feature = "other-abi"))]
macro_rules! reasons {
    ($($all:tt)*) => { define! { $($all)* } };
}

/// Another version, which tests have, numbers them the other way round.
#[cfg(feature = "other-abi")]
macro_rules! reasons {
    (@ [$($done:tt)*]) => { define! { $($done)* } };
    (@ [$($done:tt)*] $name:ident $text:literal $kind:ident $doc:literal; $($rest:tt)*) => {
        reasons! { @ [$name $text $kind $doc; $($done)*] $($rest)* }
    };
    ($($all:tt)*) => { reasons! { @ [] $($all)* } };
}

reasons! {
    InEstablished "in_established" Forwarded "Inbound, on a known flow.";
    InById "in_by_id" Forwarded "Inbound from another address, carried by its session id.";
    InByServer "in_by_server" Forwarded "Inbound without a session, to the server that its connection id names.";
    InUnestablished "in_unestablished" Forwarded "Inbound without a session, placed by hint or ring.";
    InDirect "in_direct" Forwarded "Inbound, to a backend that answers its clients by itself, without a session.";
    OutEstablished "out_established" Forwarded "Answer on a known flow.";
    InFragment "in_fragment" Forwarded "Inbound, a fragment that is not its packet's first.";
    OutFragment "out_fragment" Forwarded "Of an answer, a fragment that is not its packet's first.";
    IcmpError "icmp_error" Forwarded "An ICMP error about a packet of a service, translated like that packet.";
    IcmpTooBig "icmp_too_big" Forwarded "Larger than the next hop's MTU, and not to be fragmented: its sender was told by an ICMP error.";
    OutStateless "out_stateless" Forwarded "Answer that proves nothing, forwarded without a session.";

    StackInbound "stack_inbound" Passed "Inbound, translated and left to the kernel's stack: next hop unresolved.";
    StackOutbound "stack_outbound" Passed "Answer, translated and left to the kernel's stack: next hop unresolved.";
    StackIcmp "stack_icmp" Passed "An ICMP error, translated and left to the kernel's stack: next hop unresolved.";
    StackTooBig "stack_too_big" Passed "Translated and left to the kernel's stack: larger than the next hop's MTU, and may be fragmented.";
    NotIp "not_ip" Passed "Neither IPv4 nor IPv6 (ARP and others): the host's.";
    NotOurs "not_ours" Passed "Neither to a service nor from a backend's endpoint: the host's.";
    NotOursTruncated "not_ours_truncated" Passed "Too short to have ports, or not a protocol with ports: the host's.";

    EthernetTruncated "ethernet_truncated" Dropped "Shorter than its Ethernet header and VLAN tags.";
    Ipv4Malformed "ipv4_malformed" Dropped "IPv4 header truncated, of a wrong version, or with a wrong length.";
    Ipv6Malformed "ipv6_malformed" Dropped "IPv6 header truncated, of a wrong version, or with a wrong length.";
    Ipv4Options "ipv4_options" Dropped "To or from a service, with IPv4 options.";
    Ipv6Extension "ipv6_extension" Dropped "To or from a service, with an IPv6 extension header.";
    TooBig "too_big" Dropped "Larger than the next hop's MTU, and not to be fragmented; its sender had been told often enough.";
    TtlExpired "ttl_expired" Dropped "TTL or hop limit is used up.";
    Fragment "fragment" Dropped "To a service, a fragment whose first one was not seen, and that cannot be placed without its ports.";
    UdpMalformed "udp_malformed" Dropped "UDP header truncated, or its length field is wrong.";
    TcpMalformed "tcp_malformed" Dropped "TCP header truncated, or with flags that exclude each other.";
    WireGuardMalformed "wireguard_malformed" Dropped "Not a WireGuard message: unknown type or wrong length.";
    OpenVpnMalformed "openvpn_malformed" Dropped "Not an OpenVPN message: unknown opcode or too short.";
    IpsecMalformed "ipsec_malformed" Dropped "Neither IKEv2 nor ESP: a wrong version, a reserved SPI, or too short.";
    EspWithoutUdp "esp_without_udp" Dropped "ESP that is not in UDP, to an address whose packets are translated, or that is several services'.";
    QuicMalformed "quic_malformed" Dropped "Not a QUIC datagram: too short for its header.";
    DtlsMalformed "dtls_malformed" Dropped "Not a DTLS record: unknown type, or too short.";
    ReportMalformed "report_malformed" Dropped "From an agent, and not the report of an answer of its pool's, or by another interface than leads to it.";
    NoBackend "no_backend" Dropped "No backend of the pool can take it.";
    BackendDown "backend_down" Dropped "Its session's backend is down.";
    Released "released" Dropped "From a backend whose drain is over, to a client without a session on it.";
    SourceBudget "source_budget" Dropped "Its source sent too many unestablished packets.";
    TenantQuota "tenant_quota" Dropped "The tenant has used up its quota of sessions.";
    Guaranteed "guaranteed" Dropped "The tenant has used up what it is guaranteed, and the rest of the table is taken, or guaranteed to others.";
    NewSessions "new_sessions" Dropped "The tenant opened too many sessions a second.";
    Handshakes "handshakes" Dropped "The tenant's clients began too many handshakes a second.";
    Paced "paced" Dropped "A handshake to a backend that was given as many a second as it takes; its client tries again.";
    RatePackets "rate_packets" Dropped "The tenant sent or was sent too many packets a second.";
    RateBits "rate_bits" Dropped "The tenant sent or was sent too many bits a second.";
    TentativeFull "tentative_full" Event "The answer to a handshake was not remembered: the tenant has too many tentative sessions.";
    TableFull "table_full" Dropped "The session table has no place for a new session.";
    IdTableFull "id_table_full" Dropped "The id table has no place for a new session's id.";
    Unresolved "unresolved" Dropped "To a backend that answers its clients by itself, whose neighbour is not known: the kernel's stack could not send it there.";
    NoRoute "no_route" Dropped "No route to the client.";
    HeadRoom "head_room" Dropped "The driver left no room for a VLAN tag.";
    BadTable "bad_table" Dropped "The tables contradict themselves: an index leads nowhere.";

    Reported "reported" Taken "An answer of a backend that answers its clients by itself, reported by its agent.";

    SessionOpened "session_opened" Event "A session was opened.";
    SessionTentative "session_tentative" Event "A tentative session was made.";
    SessionMoved "session_moved" Event "A session moved to another flow.";
    MoveRefused "move_refused" Event "A session could not move: no slot within reach of its new flow.";
    SessionDisplaced "session_displaced" Event "A session lost its flow to another, and is known by its ids only.";
    IdLearned "id_learned" Event "A session id was learned.";
    IdCollision "id_collision" Event "An id led to more than one session.";
    IdUnlearned "id_unlearned" Event "An id could not be remembered: its buckets are full.";
    InsertRace "insert_race" Event "Two processors inserted the same flow; one gave up its slot.";
    Overflowed "overflowed" Event "A session was put into the overflow.";
    HintUsed "hint_used" Event "A packet without a session was placed by an affinity hint.";
    RouteLookup "route_lookup" Event "A session's next hop was looked up again.";
}

/// How many reasons there are.
pub const COUNT: u32 = Reason::ALL.len() as u32;
