//! The first process of the virtual machine: a script.

/// The script. It runs `commands` one after the other on the console, stops at none that
/// fails, tells the last failure's code on the third serial port, and turns the machine off.
/// `result_apart`: standard output goes to the second serial port.
pub(super) fn script(commands: &[String], result_apart: bool) -> String {
    let mut lines = vec![PREPARE.to_owned()];
    lines.push(format!("stty cols {} rows 50", columns()));
    if !is_terminal(result_apart) {
        lines.push("export NO_COLOR=1".to_owned());
    }
    let end = if result_apart { " > /dev/ttyS1" } else { "" };
    for command in commands {
        lines.push(format!("{command} < /dev/null{end} || code=$?"));
    }
    lines.push("echo $code > /dev/ttyS2\nsysctl -q -w kernel.printk=0\npoweroff -f\n".to_owned());
    lines.join("\n")
}

const PREPARE: &str = "#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /var/lib /root /bin/applets
/bin/busybox --install -s /bin/applets
# The applets come last: busybox's ip is not iproute2's.
export PATH=/opt:/usr/sbin:/usr/bin:/sbin:/bin:/bin/applets HOME=/root
export FERNPASS_BIN=/opt/fernpass FERNPASS_LAB_PLACES=1 FERNPASS_LAB_PATIENCE=4
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mkdir -p /dev/shm /dev/pts /run/lock
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
ln -sfn /run /var/run
# Where later kernels' packages have them.
[ -e /lib/modules ] || ln -s /usr/lib/modules /lib/modules
hostname fernpass
# Room in the queues: a busy emulator is not to look like loss on the way.
sysctl -q -w net.core.rmem_default=8388608 net.core.netdev_max_backlog=100000
# Tunnels are only where they are made.
sysctl -q -w net.core.fb_tunnels_only_for_init_net=1
# Not busybox's, which tells nobody what modules are good for: the kernel asks for them by that (ciphers of its ESP).
/sbin/depmod
# It does not ask for all.
modprobe -a veth tun bridge virtio_pci virtio_net 8021q wireguard ipip sit ip6_tunnel fou fou6 sch_ingress cls_bpf
# The driver spreads the interrupts of as many queues as there are processors. Those that it has for the program besides would all meet one.
for name in /proc/irq/*/virtio*-input.*; do
    [ -e $name ] && echo $((${name##*.} % $(nproc))) > ${name%/*}/smp_affinity_list
done
ip link set lo up
stty -F /dev/ttyS1 raw
stty -F /dev/ttyS2 raw
echo Linux $(uname -r), $(nproc) processors
code=0";

/// Whether what the commands print goes to a terminal.
fn is_terminal(result_apart: bool) -> bool {
    use std::io::{IsTerminal as _, stderr, stdout};
    if result_apart { stderr().is_terminal() } else { stdout().is_terminal() }
}

/// The width of the user's terminal.
fn columns() -> u16 {
    std::process::Command::new("stty")
        .arg("size")
        .stdin(std::process::Stdio::inherit())
        .stderr(std::process::Stdio::null())
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .and_then(|text| text.split_whitespace().nth(1)?.parse().ok())
        .filter(|columns| *columns > 0)
        .unwrap_or(120)
}

/// A word as the shell reads it.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_program_as_they_are() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_failure_is_told_and_the_machine_turned_off() {
        let script = script(&["first".to_owned(), "second".to_owned()], true);
        assert!(script.contains("first < /dev/null > /dev/ttyS1 || code=$?\nsecond"));
        assert!(
            script
                .ends_with("echo $code > /dev/ttyS2\nsysctl -q -w kernel.printk=0\npoweroff -f\n")
        );
    }
}
