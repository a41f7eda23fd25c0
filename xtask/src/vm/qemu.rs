//! Running the virtual machine.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::cables::Cables;

const EMULATOR: &str = "qemu-system-x86_64";
/// All that can be emulated but CMPXCHG16B: with it, Linux 6.12 died at 9 of 15 starts under Debian 12's QEMU (7.2), without it at none of 11. As the
/// flags look when it dies, they are left wrong by that instruction.
const CPU: &str = "max,cx16=off";

/// How many processors the machine has.
pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4))
}

/// Runs the machine until it turns itself off; the exit code of what ran in it. Its
/// console is our standard output, or standard error if the result comes apart: then that is
/// printed on standard output at the end.
pub(super) fn run(
    kernel: &Path,
    image: &Path,
    directory: &Path,
    cables: Option<Cables>,
    result_apart: bool,
    most: Duration,
) -> anyhow::Result<i32> {
    let (result, code) = (directory.join("result"), directory.join("code"));
    let mut command = machine(kernel, image, cables);
    command
        .args(["-serial", "stdio"])
        .args(["-serial", &format!("file:{}", result.display())])
        .args(["-serial", &format!("file:{}", code.display())])
        .stdin(Stdio::null());
    if result_apart {
        command.stdout(io::stderr());
    }
    let machine = command.spawn().with_context(|| format!("cannot run `{EMULATOR}`"))?;
    wait(machine, most)?;
    if result_apart {
        io::stdout().write_all(&fs::read(&result)?)?;
    }
    let text = fs::read_to_string(&code).unwrap_or_default();
    text.trim().parse().ok().context(
        "the virtual machine ended before what ran in it did; what its console said is above",
    )
}

/// Starts the machine with its console in a file, and its second serial port at a socket.
pub(super) fn start(
    kernel: &Path,
    image: &Path,
    console: &Path,
    socket: &Path,
) -> anyhow::Result<Child> {
    machine(kernel, image, None)
        .args(["-serial", &format!("file:{}", console.display())])
        .args(["-serial", &format!("unix:{},server=on,wait=off", socket.display())])
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run `{EMULATOR}`"))
}

fn machine(kernel: &Path, image: &Path, cables: Option<Cables>) -> Command {
    let mut command =
        cables.map_or_else(|| Command::new(EMULATOR), |cables| cables.command(EMULATOR));
    command
        // Not KVM: it takes rights, and where there are none to it or it is nested it fails late.
        .args(["-accel", "tcg,thread=multi", "-cpu", CPU, "-m", "2048", "-no-reboot"])
        .args(["-nodefaults", "-display", "none"])
        .args(["-smp", &processors().to_string()])
        // An emulated processor has none of the mistakes that these are for, and they cost it time.
        .args(["-append", "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .args(cables.map(Cables::arguments).unwrap_or_default());
    command
}

/// Waits until it ends; ends it if that takes too long.
fn wait(mut machine: Child, most: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        if let Some(status) = machine.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("`{EMULATOR}` failed ({status})");
        }
        if started.elapsed() > most {
            machine.kill()?;
            machine.wait()?;
            bail!("the virtual machine did not end within {} minutes", most.as_secs() / 60);
        }
        sleep(Duration::from_millis(200));
    }
}
