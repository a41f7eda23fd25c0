//! Another version's description of its tables, and what is read of them by it.

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use control::fuzz::{Reading, described};
use dataplane::abi::{Layout, LayoutKey};
use dataplane::layout::entries;
use dataplane::table::slot::{ASIDE, OPEN, TENTATIVE};

use crate::Target;

pub(crate) const TARGET: Target = Target::new(
    "layout",
    "another version's description of its tables, and elements read by it",
    run,
    seeds,
);

type Entries = BTreeMap<Vec<u8>, Layout>;

fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let ours: Entries =
        entries().into_iter().map(|(name, entry)| (name.into_bytes(), entry)).collect();
    let mut theirs = ours.clone();
    while !data.is_empty() && change(&mut theirs, &ours, &mut data).is_ok() {}
    let raw: Vec<_> = theirs.iter().map(|(name, entry)| (key(name), *entry)).collect();
    // Bytes that are near each other differ.
    let element: Vec<u8> = (0..512_u32).map(|n| (n * 37 + n / 256 + 11) as u8).collect();
    let words: Vec<u64> =
        element.chunks(8).map(|word| number(word).expect("they have eight bytes")).collect();
    match described(&raw, &words) {
        Ok(described) => {
            for reading in described.readings {
                let expected = expected(&theirs, &element, &reading).unwrap_or(0);
                assert_eq!(reading.value, expected, "{reading:?}");
            }
            for state in described.states.into_iter().flatten() {
                assert!([OPEN, TENTATIVE].contains(&(state & !ASIDE)), "no state of ours: {state}");
            }
        }
        Err(missing) => {
            let (ours, theirs) = (ours.get(missing.as_bytes()), theirs.get(missing.as_bytes()));
            assert!(ours.is_some() && theirs != ours, "`{missing}` is missing, {theirs:?}");
        }
    }
}

/// How another version's description differs: by what is not there, is elsewhere, larger or smaller, or is new.
fn change(theirs: &mut Entries, ours: &Entries, data: &mut Unstructured<'_>) -> Result<()> {
    let which = usize::from(data.arbitrary::<u8>()?) % ours.len();
    let name = ours.keys().nth(which).expect("there are so many");
    let mut entry = theirs.get(name).copied().unwrap_or(ours[name]);
    match data.arbitrary::<u8>()? % 6 {
        0 => {
            theirs.remove(name);
            return Ok(());
        }
        1 => entry.value = data.arbitrary::<u16>()?.into(),
        2 => entry.value = data.arbitrary()?,
        3 => entry.size = data.arbitrary::<u8>()?.into(),
        4 => entry.size = data.arbitrary()?,
        _ => {
            let name: [u8; 8] = data.arbitrary()?;
            let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or(&[]));
            theirs.insert(name.into_owned().into_bytes(), entry);
            return Ok(());
        }
    }
    theirs.insert(name.clone(), entry);
    Ok(())
}

/// As it lies in the map. Names are much shorter.
fn key(name: &[u8]) -> LayoutKey {
    let mut key = [0; 64];
    key[..name.len()].copy_from_slice(name);
    LayoutKey(key)
}

/// What stands where the description says, in bytes; `None` if that is nowhere, or no number.
fn expected(theirs: &Entries, element: &[u8], reading: &Reading) -> Option<u64> {
    let field = |name: &str| {
        let entry = theirs.get(name.as_bytes())?;
        let (offset, size) = (usize::try_from(entry.value).ok()?, entry.size as usize);
        // A number of so many bytes, or of words; at an address that the kernel program can read it from.
        let can_be = [1, 2, 4, 8].contains(&size) || size >= 8 && size % 8 == 0;
        (can_be && offset % size.min(8) == 0).then_some((offset, size))
    };
    let (offset, size) = match reading.name {
        "" => {
            let ((outer, room), (inner, size)) =
                (field("TENANTS.handshakes")?, field("METER.refused")?);
            (inner.checked_add(size)? <= room).then_some((outer.checked_add(inner)?, size))?
        }
        name => field(name)?,
    };
    let from = offset.checked_add(reading.n * reading.bytes)?;
    let bytes = element.get(from..from.checked_add(reading.bytes)?)?;
    let fits = (reading.n + 1) * reading.bytes <= size;
    number(bytes).filter(|_| fits && from % reading.bytes == 0)
}

/// A number of 1, 2, 4 or 8 bytes, in the machine's order, which is that of all machines that it runs on.
fn number(bytes: &[u8]) -> Option<u64> {
    Some(match bytes.len() {
        1 => bytes[0].into(),
        2 => u16::from_le_bytes(bytes.try_into().ok()?).into(),
        4 => u32::from_le_bytes(bytes.try_into().ok()?).into(),
        _ => u64::from_le_bytes(bytes.try_into().ok()?),
    })
}

fn seeds() -> Vec<Vec<u8>> {
    let count = entries().len() as u8;
    let of_each =
        |change: &[u8]| (0..count).map(|which| [&[which], change].concat()).collect::<Vec<_>>();
    let mut seeds = vec![Vec::new()];
    for change in [&[0][..], &[1, 16, 0], &[1, 0xff, 0xff], &[3, 16], &[3, 3], &[3, 4]] {
        seeds.extend(of_each(change));
    }
    seeds.push(of_each(&[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).concat());
    seeds.push(of_each(&[4, 0xf8, 0xff, 0xff, 0xff]).concat());
    seeds.push([&[0, 5][..], b"new.name"].concat());
    seeds
}
