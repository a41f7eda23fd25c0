//! Each mistake is told once, at its line, with its mend; nothing else is said.

use proptest::prelude::*;

use crate::config::{Config, Severity};

/// A configuration without findings; its lines are counted from 1.
const RIGHT: &str = r#"[gateway]
interfaces = ["wan0", "lan0"]
max_sessions = 1000

[[tenant]]
name = "justiz"
max_sessions = 100

[[pool]]
name = "wg"

[[pool.backend]]
name = "wg-1"
address = "10.20.0.11"

[[pool.backend]]
name = "wg-2"
address = "10.20.0.12"

[[service]]
name = "vpn"
tenant = "justiz"
profile = "wireguard"
listen = ["203.0.113.10:51820/udp"]
pool = "wg"
"#;

/// What is written instead of what, then line, message and a part of the mend.
type Case = (&'static str, &'static str, usize, &'static str, &'static str);

const MISTAKES: &[Case] = &[
    (
        "max_sessions = 100\n",
        "quota = 100\nmax_sessions = 100\n",
        7,
        "unknown key `quota` in [[tenant]]",
        "[[tenant]] has `name`, `max_sessions`, `guaranteed_sessions`, `handshakes`, `new_sessions`, `packets_in`, `packets_out`, `bits_in` and `bits_out`",
    ),
    (
        "max_sessions = 100\n",
        "max_sessions = 100\nguaranteed_sessions = 101\n",
        8,
        "tenant `justiz` is guaranteed 101 sessions, and may have 100",
        "lower it, or raise the tenant's `max_sessions`",
    ),
    (
        "max_sessions = 100\n",
        "max_sessions = 1000\nguaranteed_sessions = 600\n\n[[tenant]]\nname = \"b\"\nmax_sessions = 900\nguaranteed_sessions = 500\n\n[[service]]\nname = \"b\"\ntenant = \"b\"\nprofile = \"wireguard\"\nlisten = [\"203.0.113.11:51820/udp\"]\npool = \"wg2\"\n\n[[pool]]\nname = \"wg2\"\nbackend = [{ name = \"x\", address = \"10.20.0.13\" }]\n",
        13,
        "tenants are guaranteed 1100 sessions, the table holds 1000",
        "lower `guaranteed_sessions`, or raise `max_sessions` in [gateway]",
    ),
    (
        "max_sessions = 100\n",
        "max_sessions = 100\nbits_in = { rate = \"2Gbit\" }\n",
        8,
        "`2Gbit` is not an amount",
        "write a whole number and k, M or G: \"200M\" is 200,000,000",
    ),
    (
        "max_sessions = 100\n",
        "max_sessions = 100\nbits_in = { rate = 9600 }\n",
        8,
        "`bits_in` must not be 9600 bits a second",
        "it goes from 100000 to 1000000000000",
    ),
    (
        "max_sessions = 100\n",
        "max_sessions = 100\npackets_out = { rate = \"1M\", burst = 200 }\n",
        8,
        "a burst of 200 packets does not fit the rate",
        "with 1000000 a second it goes from 10000 (what comes between two ticks of a slow clock) to 100000000 (100 s)",
    ),
    (
        "max_sessions = 100\n",
        "max_sessions = 100\nhandshakes = { burst = 200 }\n",
        8,
        "`rate` is missing in handshakes",
        "write handshakes = { rate = 100, burst = 500 }",
    ),
    (
        "max_sessions = 100\n",
        "max_sessions = 100\nnew_sessions = 100\n",
        8,
        "new_sessions must be a table, not an integer",
        "write `new_sessions = { … }`",
    ),
    (
        "address = \"10.20.0.12\"",
        "address = \"10.20.0.12\"\nhandshakes = { rate = 0 }",
        19,
        "`handshakes` must not be 0 a second",
        "it goes from 1 to 1000000",
    ),
    (
        "interfaces",
        "interfces",
        2,
        "unknown key `interfces` in [gateway]",
        "did you mean `interfaces`?",
    ),
    (
        r#"address = "10.20.0.12""#,
        r#"adress = "10.20.0.12""#,
        18,
        "unknown key `adress` in [[pool.backend]]",
        "did you mean `address`?",
    ),
    (
        "max_sessions = 1000",
        r#"max_sessions = 1000
colour = "red""#,
        4,
        "unknown key `colour` in [gateway]",
        "[gateway] has `interfaces`, `xdp_mode`, `max_sessions`, `bpffs`, `state_dir`, `sysctl` and `manage_vips`",
    ),
    (r#""lan0"]"#, r#""wan0"]"#, 2, "interface `wan0` is named twice", "leave one out"),
    (
        r#""lan0"]"#,
        r#""an-interface-too-long"]"#,
        2,
        "`an-interface-too-long` is too long for an interface's name",
        "the kernel allows 15 bytes",
    ),
    (
        r#"["wan0", "lan0"]"#,
        "[]",
        2,
        "there must be at least one interface",
        r#"name the interfaces that packets come in by: interfaces = ["wan0", "lan0"]"#,
    ),
    (
        r#"["wan0", "lan0"]"#,
        r#""wan0""#,
        2,
        "`interfaces` must be a list, not a string",
        "write `interfaces = [ … ]`",
    ),
    (
        "max_sessions = 1000",
        "max_sessions = 0",
        3,
        "`max_sessions` must not be 0",
        "it goes from 1 to 16777216",
    ),
    (
        "max_sessions = 1000",
        r#"max_sessions = "many""#,
        3,
        "`max_sessions` must be a whole number, not a string",
        "",
    ),
    (
        "max_sessions = 1000",
        "max_sessions = -1",
        3,
        "-1 is not a number that can be used here",
        "it must be zero or more, and less than 2^64",
    ),
    (
        "max_sessions = 1000",
        r#"max_sessions = 1000
xdp_mode = "fast""#,
        4,
        "there is no xdp_mode `fast`",
        "write `native` or `generic`",
    ),
    (
        "max_sessions = 1000",
        r#"max_sessions = 1000
bpffs = "fernpass""#,
        4,
        "`fernpass` is not an absolute path",
        "begin it with `/`",
    ),
    (
        "[[tenant]]",
        "[tenant]",
        5,
        "there can be several [[tenant]], but this is a table",
        "write `[[tenant]]` with double brackets",
    ),
    (
        r#"name = "justiz"
"#,
        "",
        5,
        "`name` is missing in [[tenant]]",
        "add `name = …`, a string",
    ),
    (
        r#"name = "justiz""#,
        r#"name = "Die Justiz""#,
        6,
        r#"the name "Die Justiz" contains ' '"#,
        "use letters a to z, digits, `-`, `_` and `.`",
    ),
    (
        r#"name = "justiz""#,
        r#"name = """#,
        6,
        "a name must not be empty",
        r#"it is what listings and metrics show: name = "justiz""#,
    ),
    (
        "max_sessions = 100\n",
        "max_sessions = 2000\n",
        7,
        "tenant `justiz` may have 2000 sessions, the table holds 1000",
        "lower it, or raise `max_sessions` in [gateway]",
    ),
    (
        r#"name = "wg-2""#,
        r#"name = "wg-1""#,
        17,
        "another backend of this pool is called `wg-1`",
        "rename one",
    ),
    (
        r#""10.20.0.12""#,
        r#""10.20.0.11""#,
        18,
        "backends `wg/wg-1` and `wg/wg-2` are the same endpoint 10.20.0.11:51820",
        "answers from it could not be told apart: give one another address or port",
    ),
    (
        r#""10.20.0.12""#,
        r#""10.20.0.300""#,
        18,
        "`10.20.0.300` is not an address",
        "write an IPv4 or IPv6 address; names are not looked up",
    ),
    (
        r#""10.20.0.12""#,
        r#""203.0.113.10""#,
        18,
        "backend address 203.0.113.10 is a service's own",
        "write the concentrator's own address",
    ),
    (
        r#""10.20.0.12""#,
        r#""127.0.0.1""#,
        18,
        "127.0.0.1 is a loopback address, which no interface carries",
        "write an address that is reached through one of the interfaces",
    ),
    (
        r#""10.20.0.12""#,
        r#""224.0.0.1""#,
        18,
        "224.0.0.1 is a multicast address",
        "write a unicast address",
    ),
    (
        r#""10.20.0.12""#,
        r#""fe80::1""#,
        18,
        "fe80::1 is link-local, and means another host on each interface",
        "write a global or unique local address",
    ),
    (
        r#""10.20.0.12""#,
        r#""10.20.0.12"
weight = 0"#,
        19,
        "`weight` must not be 0",
        "to keep new sessions away, drain it: `fernpass backend drain NAME`",
    ),
    (
        r#""10.20.0.12""#,
        r#""10.20.0.12"
weight = 10001"#,
        19,
        "`weight` must not be 10001",
        "it goes from 1 to 10000",
    ),
    (
        r#""10.20.0.12""#,
        r#""10.20.0.12"
address6 = "10.20.0.13""#,
        19,
        "`10.20.0.13` is not an IPv6 address",
        "an IPv4 address belongs into the key without the `6`",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
idle_timeout = 300
"#,
        11,
        r#"`idle_timeout` must be a duration in quotes, such as "5m", not an integer"#,
        r#"write a duration in quotes, such as "5m""#,
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
idle_timeout = "soon"
"#,
        11,
        "`soon` is not a duration: expected number at 0",
        r#"write a number and its unit: "500ms", "30s", "5m", "1h""#,
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
health = "icmp"
"#,
        11,
        "`health` must be a table, not a string",
        "write `health = { … }`",
    ),
    (
        r#"tenant = "justiz""#,
        r#"tenant = "justitz""#,
        22,
        "there is no tenant `justitz`",
        "did you mean `justiz`?",
    ),
    (r#"pool = "wg""#, r#"pool = "rdp""#, 25, "there is no pool `rdp`", "there is `wg`"),
    (
        r#"profile = "wireguard""#,
        r#"profile = "ssh""#,
        23,
        "there is no profile `ssh`",
        "write `wireguard`, `openvpn`, `ipsec`, `quic`, `dtls`, `udp` or `tcp`",
    ),
    (
        r#"profile = "wireguard""#,
        "profile = \"wireguard\"\ntcp_mss = 535",
        24,
        "`tcp_mss` must not be 535",
        "write a number from 536 to 65495",
    ),
    (
        r#"profile = "wireguard""#,
        "profile = \"wireguard\"\ntcp_mss = 1360",
        24,
        "the service has no TCP listener that `tcp_mss` could be of",
        "add a listener",
    ),
    (
        r#"profile = "wireguard""#,
        "profile = \"wireguard\"\naffinity = \"port\"",
        24,
        "there is no affinity `port`",
        "write `source` or `flow`",
    ),
    (
        "profile = \"wireguard\"\nlisten = [\"203.0.113.10:51820/udp\"]",
        "profile = \"ipsec\"\naffinity = \"flow\"\nlisten = [\"203.0.113.10:500/udp\", \"203.0.113.10:4500/udp\"]",
        24,
        "profile `ipsec` cannot have the affinity `flow`: a client goes on at another port",
        "write `affinity = \"source\"`",
    ),
    (
        r#"address = "10.20.0.11""#,
        "address = \"10.20.0.11\"\nserver_id = \"01\"",
        15,
        "`server_id` does nothing with a pool without `quic_lb`",
        "leave it out",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
mode = "dnat"
"#,
        11,
        "there is no mode `dnat`",
        "did you mean `nat`?",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
mode = "tunnel"
"#,
        9,
        "`tunnel` is missing in [[pool]]",
        "say which of the gateway's addresses its tunnels come from: `tunnel = { source = \"10.20.0.1\" }`",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
tunnel = { source = "10.20.0.1" }
"#,
        11,
        "`tunnel` does nothing with mode = \"nat\"",
        "leave it out",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
mode = "tunnel"
tunnel = { encapsulation = "gre", source = "10.20.0.1" }
"#,
        12,
        "there is no encapsulation `gre`",
        "did you mean `gue`?",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
mode = "tunnel"
tunnel = { source6 = "fd00:20::1" }
"#,
        12,
        "the tunnel to 10.20.0.11 has no IPv4 address",
        "write `source`: an address of the gateway's",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
mode = "tunnel"
tunnel = { source = "10.20.0.1", port = 6081 }
"#,
        12,
        "`port` does nothing with encapsulation = \"ipip\"",
        "leave it out",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
mode = "tunnel"
tunnel = { source = "10.20.0.12" }
"#,
        20,
        "10.20.0.12 is both ends of the tunnel",
        "write the backend's own address",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
mode = "tunnel"
tunnel = { source = "fd00:20::1" }
"#,
        12,
        "`fd00:20::1` is not an IPv4 address",
        "an IPv6 address belongs into the key with the `6`",
    ),
    (
        r#"name = "wg"

[[pool.backend]]
name = "wg-1"
"#,
        r#"name = "wg"
mode = "dsr"

[[pool.backend]]
name = "wg-1"
port = 51821
"#,
        15,
        "in mode `dsr` packets keep the port that clients dial",
        "leave `port` out: backend `wg-1` listens on the service's",
    ),
    (
        r#"name = "wg"

[[pool.backend]]
name = "wg-1"
"#,
        r#"name = "wg"
mode = "dsr"

[[pool.backend]]
name = "wg-1"
max_sessions = 10
"#,
        15,
        "in mode `dsr` without agents backend `wg-1`'s sessions are not counted",
        "leave `max_sessions` out and use `weight`, or run agents: `agent = true`",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
agent = true
"#,
        11,
        "`agent` does nothing with mode = \"nat\"",
        "leave it out",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
mode = "tunnel"
tunnel = { encapsulation = "gue", source = "10.20.0.1", port = 6079 }
"#,
        12,
        "6079 is the port that agents report to",
        "choose another; usual is 6080",
    ),
    (
        r#"name = "wg"

[[pool.backend]]
name = "wg-1"
"#,
        r#"name = "a"
mode = "dsr"
agent = true

[[pool.backend]]
name = "a"
address = "10.20.0.12"

[[service]]
name = "a"
tenant = "justiz"
profile = "udp"
listen = ["203.0.113.10:53/udp"]
pool = "a"

[[pool]]
name = "wg"
mode = "dsr"
agent = true

[[pool.backend]]
name = "wg-1"
"#,
        36,
        "the agent at 10.20.0.12 cannot be that of two backends",
        "services that the machine has in common can share a pool",
    ),
    (
        r#"name = "wg"
"#,
        r#"name = "wg"
mode = "dsr"
idle_timeout = "5h"
"#,
        9,
        "`idle_timeout` is too long for mode `dsr`",
        "it may be up to 4h there",
    ),
    (
        r#"profile = "wireguard""#,
        r#"profile = "tcp""#,
        24,
        "profile `tcp` cannot have the listener 203.0.113.10:51820/udp",
        "write `profile = \"udp\"`",
    ),
    (
        r#"profile = "wireguard""#,
        r#"profile = "wiregard""#,
        23,
        "there is no profile `wiregard`",
        "did you mean `wireguard`?",
    ),
    (
        r#":51820/udp""#,
        r#":51820""#,
        24,
        "`203.0.113.10:51820` is not a listener: the protocol is missing",
        "write `203.0.113.10:51820/udp` or `203.0.113.10:51820/tcp`",
    ),
    (
        r#":51820/udp""#,
        r#":51820/esp""#,
        24,
        "`203.0.113.10:51820/esp` is not a listener: protocol `esp` is not yet supported in this version",
        "listeners are `/udp` or `/tcp` so far",
    ),
    (
        r#":51820/udp""#,
        r#":0/udp""#,
        24,
        "a listener's port must not be 0",
        "write the port that clients dial",
    ),
    (
        r#":51820/udp"]"#,
        r#":51820/udp", "203.0.113.10:51820/udp"]"#,
        24,
        "203.0.113.10:51820/udp is listed twice",
        "a listener belongs to one service: change the address or the port",
    ),
    (
        r#":51820/udp"]"#,
        r#":51820/udp", "203.0.113.11:51820/udp"]"#,
        24,
        "203.0.113.10:51820/udp and 203.0.113.11:51820/udp both lead to 10.20.0.11:51820 on backend `wg/wg-1`",
        "answers from it could not be told apart: give the listeners different ports, or make a second service with a pool of its own",
    ),
    (
        r#""203.0.113.10:51820/udp""#,
        r#""[2001:db8::10]:51820/udp""#,
        24,
        "pool `wg` has no IPv6 address for this listener",
        "give its backends an IPv6 `address6`, or leave the listener out",
    ),
    (
        r#"pool = "wg"
"#,
        r#"pool = "wg"

[[service]]
name = "rdp"
tenant = "justiz"
profile = "udp"
listen = ["203.0.113.10:51820/udp"]
pool = "wg"
"#,
        31,
        "services `vpn` and `rdp` both listen on 203.0.113.10:51820/udp",
        "a listener belongs to one service: change the address or the port",
    ),
    (
        r#"pool = "wg"
"#,
        r#"pool = "wg"

[limits]
unestablished_per_source = { rate = 10, burst = 1000000 }
"#,
        28,
        "a burst of 1000000 packets is too much",
        "at most 1000 times the rate",
    ),
    (
        r#"pool = "wg"
"#,
        r#"pool = "wg"

[api]
metrics = "9477"
"#,
        28,
        "`9477` is not an address with a port",
        r#"write it as "127.0.0.1:9477" or "[::1]:9477""#,
    ),
    (
        r#"pool = "wg"
"#,
        r#"pool = "wg"

[apis]
"#,
        27,
        "unknown key `apis` in the file",
        "did you mean `api`?",
    ),
    (
        r#"pool = "wg"
"#,
        r#"pool = "wg
"#,
        25,
        r#"invalid basic string, expected `"`"#,
        "",
    ),
    (
        "max_sessions = 1000",
        "max_sessions = 50",
        7,
        "tenant `justiz` may have 100 sessions, the table holds 50",
        "lower it, or raise `max_sessions` in [gateway]",
    ),
    (
        r#"listen = ["203.0.113.10:51820/udp"]"#,
        r#"listen = ["203.0.113.10:51820/udp", "[2001:db8::10]:51820/udp"]"#,
        24,
        "pool `wg` has no IPv6 address for this listener",
        "give its backends an IPv6 `address6`, or leave the listener out",
    ),
];

const WARNINGS: &[Case] = &[
    (
        r#"listen = ["203.0.113.10:51820/udp"]"#,
        "affinity = \"flow\"\nlisten = [\"203.0.113.10:51820/udp\", \"203.0.113.10:443/tcp\"]",
        24,
        "TCP and UDP of a client may be on different backends",
        "leave it out",
    ),
    (
        r#"profile = "wireguard""#,
        r#"profile = "ipsec""#,
        24,
        "clients begin at port 500, where nobody listens",
        "add the listener \"203.0.113.10:500/udp\"",
    ),
    (
        "[[service]]",
        r#"[[tenant]]
name = "finanz"
max_sessions = 10

[[service]]"#,
        20,
        "tenant `finanz` has no service",
        "",
    ),
    (
        "[[service]]",
        r#"[[pool]]
name = "old"
[[pool.backend]]
name = "a"
address = "10.20.9.9"

[[service]]"#,
        20,
        "pool `old` is used by no service",
        "",
    ),
    (
        r#"pool = "wg"
"#,
        r#"pool = "wg"

[api]
web = "127.0.0.1:9000"
"#,
        28,
        "there is no dashboard in this version: nothing is served here",
        "leave `web` out until there is",
    ),
];

/// A pool whose servers are named in connection ids.
const NAMED: &str = r#"[gateway]
interfaces = ["wan0", "lan0"]

[[tenant]]
name = "justiz"
max_sessions = 100

[[pool]]
name = "quic"
quic_lb = { config_id = 0, server_id_length = 2 }

[[pool.backend]]
name = "quic-1"
address = "10.20.0.11"
server_id = "0001"

[[pool.backend]]
name = "quic-2"
address = "10.20.0.12"
server_id = "0002"

[[service]]
name = "masque"
tenant = "justiz"
profile = "quic"
listen = ["203.0.113.10:443/udp", "203.0.113.10:443/tcp"]
pool = "quic"
"#;

const MISNAMED: &[Case] = &[
    (
        "\"0002\"",
        "\"0001\"",
        20,
        "another backend of this pool has the `server_id` 0001",
        "each has its own",
    ),
    (
        "\"0002\"",
        "\"000002\"",
        20,
        "`server_id` has 3 bytes, and the pool's have 2",
        "write 4 hexadecimal digits, or change `server_id_length`",
    ),
    (
        "\"0002\"",
        "\"0x02\"",
        20,
        "`0x02` is not a server's id: it has other characters than hexadecimal digits",
        "leave `0x` out",
    ),
    (
        "\"0002\"",
        "\"002\"",
        20,
        "`002` is not a server's id: it has an odd number of digits",
        "write two hexadecimal digits for each byte",
    ),
    (
        "\"0002\"",
        "\"00000002\"",
        20,
        "`00000002` is not a server's id: it has 4 bytes, not 1 to 3",
        "write two hexadecimal digits for each byte",
    ),
    (
        "\"0002\"",
        "2",
        20,
        "`server_id` must be a server's id in quotes, in hexadecimal digits, such as \"0a01\", not an integer",
        "write a server's id in quotes",
    ),
    (
        "server_id = \"0002\"\n",
        "",
        17,
        "`server_id` is missing in [[pool.backend]]",
        "write what its connection ids call it",
    ),
    ("config_id = 0", "config_id = 7", 10, "`config_id` must not be 7", "it goes from 0 to 6"),
    ("length = 2", "length = 4", 10, "`server_id_length` must not be 4", "it goes from 1 to 3"),
    (
        "config_id = 0, ",
        "",
        10,
        "`config_id` is missing in `quic_lb`",
        "write the one that the servers have",
    ),
    (
        ", server_id_length = 2",
        "",
        10,
        "`server_id_length` is missing in `quic_lb`",
        "write how many bytes name a server",
    ),
    (
        "{ config_id = 0, server_id_length = 2 }",
        "true",
        10,
        "`quic_lb` must be a table, not a boolean",
        "write `quic_lb = { … }`",
    ),
];

const NAMED_FOR_NOTHING: &[Case] = &[(
    "profile = \"quic\"",
    "profile = \"udp\"",
    10,
    "pool `quic` has `quic_lb`, and no service of QUIC",
    "write `profile = \"quic\"` in the service",
)];

fn tells(cases: &[Case], severity: Severity) {
    tells_of(RIGHT, cases, severity);
}

fn tells_of(all: &str, cases: &[Case], severity: Severity) {
    for &(right, wrong, line, message, help) in cases {
        assert!(all.contains(right), "{right}");
        let text = all.replacen(right, wrong, 1);
        let (config, report) = Config::examine(&text, "mistake.toml");
        let said: Vec<_> =
            report.findings.iter().map(|f| (f.severity, f.line, f.message.as_str())).collect();
        assert_eq!(said, [(severity, line, message)], "{wrong}");
        let said = report.findings[0].help.as_deref().unwrap_or_default();
        assert!(said.contains(help), "{wrong}: {said}");
        assert_eq!(config.is_some(), severity == Severity::Warning, "{wrong}");
    }
}

#[test]
fn the_configuration_to_spoil_has_no_findings() {
    let (config, report) = Config::examine(RIGHT, "right.toml");
    assert_eq!((report.to_string().as_str(), config.is_some()), ("", true));
}

#[test]
fn every_mistake_is_told_at_its_line_with_its_mend() {
    tells(MISTAKES, Severity::Error);
}

#[test]
fn a_servers_name_that_leads_nowhere_is_told() {
    let (config, report) = Config::examine(NAMED, "named.toml");
    assert_eq!(report.to_string(), "");
    let config = config.expect("no findings");
    assert_eq!(Config::parse(&config.to_toml(), "again").expect("reads back"), config);
    tells_of(NAMED, MISNAMED, Severity::Error);
    tells_of(NAMED, NAMED_FOR_NOTHING, Severity::Warning);
}

#[test]
fn what_is_seldom_meant_is_told_and_accepted() {
    tells(WARNINGS, Severity::Warning);
}

proptest! {
    /// Whatever stands in the file, it is answered; what is found has a line of the file.
    #[test]
    fn any_damage_is_answered(
        from in 0..RIGHT.len(),
        length in 0..40usize,
        put in "\\PC{0,6}|[\\[\\]{}=\"#\n]{0,4}",
    ) {
        let mut text = RIGHT.to_owned();
        text.replace_range(from..(from + length).min(RIGHT.len()), &put);
        let (config, report) = Config::examine(&text, "damaged.toml");
        let errors = report.findings.iter().filter(|f| f.severity == Severity::Error).count();
        prop_assert_eq!(config.is_none(), errors > 0, "{}", report);
        for finding in &report.findings {
            prop_assert!((1..=text.lines().count().max(1) + 1).contains(&finding.line), "{}", report);
        }
    }
}
