//! TCP's largest segment: both ends of a connection tell the other what they take, in an option of the packets that begin it (RFC
//! 9293, 3.7.1). Where ICMP errors do not come through, what is between them has to say that less will do.

use crate::checksum::{change16, fold, update};
use crate::header::{SYN, TCP};
use crate::packet::{Packet, View};

/// Kinds of options (RFC 9293, 3.1).
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
/// Bytes of that option.
const OPTION: usize = 4;
/// Options that are looked at: with every system it is the first one.
const OPTIONS: u64 = 4;

/// Lowers what the TCP header at `l4` says to `most` bytes, if it begins a connection and says more.
#[inline(always)]
pub(super) fn clamp<P: Packet>(packet: &P, l4: usize, most: u16) {
    let Some(at) = find(packet, l4) else { return };
    // Looked at anew: a pointer that is kept through a loop is one that the verifier may lose.
    let (Some(tcp), Some(option)) = (packet.view::<TCP>(l4), packet.view::<OPTION>(l4 + at)) else {
        return;
    };
    let (old, new) = (option.u16::<2>(), most.to_be());
    if u16::from_be(old) > most {
        option.set_u16::<2>(new);
        // At an odd place the bytes are those of two words of the sum.
        let swapped = |word: u16| if at & 1 == 0 { word } else { word.swap_bytes() };
        let delta = fold(change16(swapped(old), swapped(new)).into());
        tcp.set_u16::<16>(update(tcp.u16::<16>(), delta));
    }
}

/// Where the option is, from the header on, of what begins a connection.
#[inline(always)]
fn find<P: Packet>(packet: &P, l4: usize) -> Option<usize> {
    let tcp = packet.view::<TCP>(l4)?;
    let (size, flags) = (tcp.u8::<12>(), tcp.u8::<13>());
    if flags & SYN == 0 {
        return None;
    }
    let header = usize::from(size >> 4) << 2;
    let mut at = TCP;
    for _ in 0..OPTIONS {
        if at + OPTION > header {
            return None;
        }
        let option = packet.view::<2>(l4 + at)?;
        let (kind, len) = (option.u8::<0>(), usize::from(option.u8::<1>()));
        match kind {
            END => return None,
            NOTHING => at += 1,
            MSS if len == OPTION => return Some(at),
            _ if len < 2 => return None,
            _ => at += len,
        }
    }
    None
}
