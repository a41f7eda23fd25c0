//! What of the settings is the same for the life of the tables.

use dataplane::abi::Settings;
use dataplane::cell::Cell;

/// Its fields as they were: without them no session is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    keys: [u64; 8],
    sizes: [u32; 4],
}

const KEYS: [&str; 8] = [
    "flow_key[0]",
    "flow_key[1]",
    "flow_key[2]",
    "flow_key[3]",
    "flow_key[4]",
    "hash_key[0]",
    "hash_key[1]",
    "first_generation",
];
const SIZES: [&str; 4] = ["slot_mask", "overflow_mask", "id_buckets", "hint_buckets"];

fn keys(settings: &Settings) -> [&Cell<u64>; 8] {
    let [a, b, c, d, e] = &settings.flow_key;
    let [f, g] = &settings.hash_key;
    [a, b, c, d, e, f, g, &settings.first_generation]
}

fn sizes(settings: &Settings) -> [&Cell<u32>; 4] {
    let s = settings;
    [&s.slot_mask, &s.overflow_mask, &s.id_buckets, &s.hint_buckets]
}

impl Fixed {
    /// What the settings say.
    pub fn read(settings: &Settings) -> Self {
        Self { keys: keys(settings).map(Cell::get), sizes: sizes(settings).map(Cell::get) }
    }

    /// Writes again what the settings say otherwise: which fields.
    pub fn mend(&self, settings: &Settings) -> Vec<&'static str> {
        let mut mended = Vec::new();
        for ((cell, was), name) in keys(settings).into_iter().zip(self.keys).zip(KEYS) {
            if cell.get() != was {
                cell.set(was);
                mended.push(name);
            }
        }
        for ((cell, was), name) in sizes(settings).into_iter().zip(self.sizes).zip(SIZES) {
            if cell.get() != was {
                cell.set(was);
                mended.push(name);
            }
        }
        mended
    }
}
