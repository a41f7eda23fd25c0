//! Running the virtual machine.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Runs the machine until it turns itself off; the exit code of what ran in it. Its
/// console is our standard output, or standard error if the result comes apart: then that is
/// printed on standard output at the end.
pub(super) fn run(
    kernel: &Path,
    image: &Path,
    directory: &Path,
    result_apart: bool,
    most: Duration,
) -> anyhow::Result<i32> {
    let (result, code) = (directory.join("result"), directory.join("code"));
    let processors = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
    let mut command = Command::new("qemu-system-x86_64");
    command
        // Not KVM: it takes rights, and where there are none to it or it is nested it fails late.
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "2048", "-no-reboot"])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
        .args(["-smp", &processors.to_string()])
        .args(["-serial", &format!("file:{}", result.display())])
        .args(["-serial", &format!("file:{}", code.display())])
        .args(["-append", "console=ttyS0 quiet loglevel=1 panic=-1"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .stdin(Stdio::null());
    if result_apart {
        command.stdout(io::stderr());
    }
    let machine = command.spawn().context("cannot run `qemu-system-x86_64`")?;
    wait(machine, most)?;
    if result_apart {
        io::stdout().write_all(&fs::read(&result)?)?;
    }
    let text = fs::read_to_string(&code).unwrap_or_default();
    text.trim().parse().ok().context(
        "the virtual machine ended before what ran in it did; what its console said is above",
    )
}

/// Waits until it ends; ends it if that takes too long.
fn wait(mut machine: Child, most: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        if let Some(status) = machine.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("`qemu-system-x86_64` failed ({status})");
        }
        if started.elapsed() > most {
            machine.kill()?;
            machine.wait()?;
            bail!("the virtual machine did not end within {} minutes", most.as_secs() / 60);
        }
        sleep(Duration::from_millis(200));
    }
}
