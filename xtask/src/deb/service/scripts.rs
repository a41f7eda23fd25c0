//! What runs in the machine: its network, its traffic, and how the daemon is waited for.

/// A client, the gateway and a concentrator, each in a network of its own; both ends of the tunnel are the kernel's WireGuard.
pub(super) const NETWORK: &str = "
ip netns add c
ip netns add s
ip link add wan0 type veth peer name c0 netns c
ip link add lan0 type veth peer name s0 netns s
# Frames of local sockets would be unfinished, and what the program sends arrives where there is GRO.
for at in '1 wan0' '1 lan0' 'c c0' 's s0'; do
    set -- $at
    in=\"$([ $1 = 1 ] || echo ip netns exec $1)\"
    $in ip link set $2 up
    $in ethtool -K $2 tx off gso off tso off gro off
done
ip netns exec c ethtool -K c0 gro on
ip netns exec s ethtool -K s0 gro on
ip addr add 203.0.113.10/32 dev lo
ip addr add 198.51.100.1/24 dev wan0
ip addr add 10.20.0.1/24 dev lan0
ip -n c addr add 198.51.100.7/24 dev c0
ip -n c route add default via 198.51.100.1
ip -n s addr add 10.20.0.11/24 dev s0
ip -n s route add default via 10.20.0.1
umask 77
for end in c s; do
    ip -n $end link set lo up
    ip -n $end link add wg0 type wireguard
    wg genkey > /root/$end.key
    wg pubkey < /root/$end.key > /root/$end.pub
done
ip netns exec s wg set wg0 listen-port 51820 private-key /root/s.key \\
    peer $(cat /root/c.pub) allowed-ips 10.99.0.2/32
ip netns exec c wg set wg0 private-key /root/c.key \\
    peer $(cat /root/s.pub) allowed-ips 10.99.0.1/32 endpoint 203.0.113.10:51820
ip -n s addr add 10.99.0.1/24 dev wg0
ip -n c addr add 10.99.0.2/24 dev wg0
ip -n s link set wg0 up
ip -n c link set wg0 up";
/// For it.
pub(super) const CONFIGURATION: &str = r#"
[gateway]
interfaces   = ["wan0", "lan0"]
max_sessions = 4096
sysctl       = "set"

[[tenant]]
name         = "justiz"
max_sessions = 100

[[pool]]
name   = "wg-justiz"
health = { probe = "icmp", interval = "1s", timeout = "900ms", rise = 2, fall = 5 }

  [[pool.backend]]
  name    = "wg-1"
  address = "10.20.0.11"

[[service]]
name    = "vpn-justiz"
tenant  = "justiz"
profile = "wireguard"
listen  = ["203.0.113.10:51820/udp"]
pool    = "wg-justiz"
"#;
/// The kernel takes a minute to verify the program with an emulated processor, of the minute and a half that systemd gives a start.
pub(super) const PATIENCE: &str = "
mkdir -p /etc/systemd/system/fernpass.service.d
printf '[Service]\\nTimeoutStartSec=600\\n' > /etc/systemd/system/fernpass.service.d/patience.conf";
/// Fifty numbered packets a second in the tunnel, until it is told to end; then it waits for the last, and says how many it sent and how
/// many never came back, then of each of those its number, when it was sent, and whether the echo server had it. (ping waits for two round
/// trips, which a busy emulator outlasts.)
pub(super) const TRAFFIC: &str = r#"import os, select, socket, time
port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
port.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
port.connect(("10.99.0.1", 7))
times, back = [], set()
def receive(seconds):
    if select.select([port], [], [], seconds)[0]:
        back.add(int(port.recv(100)))
ends = None
while len(back) < len(times) or not os.path.exists("/root/stop"):
    if os.path.exists("/root/stop"):
        ends = ends or time.monotonic() + 10
        if time.monotonic() > ends:
            break
    else:
        port.send(str(len(times)).encode())
        times.append(time.time())
    due = time.monotonic() + 0.02
    while (left := due - time.monotonic()) > 0:
        receive(left)
print(len(times), len(times) - len(back))
echoed = set(open("/root/echoed").read().split())
for n, at in enumerate(times):
    if n not in back:
        print(n, time.strftime("%T", time.gmtime(at)) + f"{at % 1:.3f}"[1:], "echoed" if str(n) in echoed else "not echoed")
"#;
/// Sends it back, and keeps a list.
pub(super) const ECHO: &str = r#"import socket
port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
port.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
port.bind(("10.99.0.1", 7))
while True:
    data, client = port.recvfrom(100)
    port.sendto(data, client)
    with open("/root/echoed", "ab") as echoed:
        echoed.write(data + b"\n")
"#;
/// Begins to send.
pub(super) const BEGIN: &str = "
rm -f /root/stop /root/account /root/echoed
{ ip netns exec c python3 /opt/traffic > /root/told 2>&1; mv /root/told /root/account; } \\
    > /dev/null 2>&1 < /dev/null &
sleep 2";
/// Ends it: what was sent, and what was lost.
pub(super) const END: &str = "
touch /root/stop
while [ ! -e /root/account ]; do sleep 0.2; done
cat /root/account";
/// What everything on the way has counted until now, a name and a number a line.
pub(super) const COUNTED: &str = "
for at in '1 wan0' '1 lan0' 'c c0' 'c wg0' 's s0' 's wg0'; do
    set -- $at
    in=\"$([ $1 = 1 ] || echo ip netns exec $1)\"
    $in sh -c \"cd /sys/class/net/$2/statistics; grep . *\" | sed \"s/^/$2 /; s/:/ /\"
    $in ethtool -S $2 2>/dev/null | sed -n \"s/^ *\\([a-z].*\\): \\([0-9]\\)/$2 \\1 \\2/p\"
done
for at in 1 c s; do
    in=\"$([ $at = 1 ] || echo ip netns exec $at)\"
    $in nstat -asz | sed -n \"s/^\\([A-Z][A-Za-z0-9]*\\)  *\\([0-9]*\\) .*/network $at \\1 \\2/p\"
    $in ip neigh | sed \"s/^/neighbour $at /; s/$/ 1/\"
done
n=0; while read -r _ dropped _; do
    n=$((n + 1)); echo backlog $n dropped $((0x$dropped))
done < /proc/net/softnet_stat
n=0; while read -r entries _ _ _ _ _ failed _ _ _ _ discarded _; do
    [ $entries != entries ] || continue
    n=$((n + 1)); echo neighbours $n failed $((0x$failed)); echo neighbours $n discarded $((0x$discarded))
done < /proc/net/stat/arp_cache
fernpass counters 2>/dev/null | sed -n 's/^ *\\([0-9][0-9]*\\)  *\\([a-z_]*\\)  *\\([a-z_0-9]*\\) .*/gateway \\2 \\3 \\1/p'";
/// Prints the daemon's process as soon as it is another than `$old` and systemd has been told that it forwards.
pub(super) const AWAIT: &str = "
for i in $(seq 6000); do
    if [ \"$(systemctl is-active fernpass)\" = active ]; then
        pid=$(systemctl show --value -p MainPID fernpass)
        if [ $pid != $old ]; then echo $pid; exit; fi
    fi
    sleep 0.1
done
echo 'it does not come back'
systemctl status fernpass
exit 1";
