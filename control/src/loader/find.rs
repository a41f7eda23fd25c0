//! What earlier daemons left under a bpffs, at whatever moment they were killed.

use super::layout::Layout;
use super::{Bpffs, LoadError, Old, Pins, Tables, adopt};

/// What is pinned under a bpffs.
#[derive(Debug)]
pub enum Found {
    /// Nothing that could be taken over.
    Nothing,
    /// This version's tables.
    Own(Box<Tables>),
    /// This version's tables, and those whose sessions are not yet all there: their move was interrupted.
    Moving(Box<Tables>, Box<Old>),
    /// Another version's tables.
    Foreign(Box<Old>),
}

/// Looks what is there, and takes away what was not finished and what is no longer needed.
///
/// A move goes through these states, each of which is left by one change of a name:
///
/// 1. the new tables are under another name: they are thrown away;
/// 2. (growth) the old ones are set aside, the new ones not yet in their place: they go back;
/// 3. the new ones are in their place, and lead to the old ones: the move is finished from where it was;
/// 4. they do not: the old ones are thrown away.
///
/// What is thrown away gets the name that new tables have in the first state before it is.
///
/// # Errors
/// What is there cannot be taken over.
pub fn find(bpffs: &Bpffs) -> Result<Found, LoadError> {
    let (own, aside) = (Pins::under(bpffs), Pins::aside(bpffs));
    let mut others = Pins::of_all(bpffs);
    for pins in &others {
        let [staging, aside] = pins.beside();
        if !pins.exist() && aside.exist() {
            aside.rename(pins)?;
        }
        staging.remove()?;
    }
    others.retain(|pins| *pins != own && pins.exist());
    if own.exist() {
        if let Some(from) = own.predecessor().filter(Pins::exist) {
            let tables = adopt(&own)?.ok_or(LoadError::NotLoaded { path: own.dir().to_owned() })?;
            return Ok(Found::Moving(Box::new(tables), Box::new(Old::open(from)?)));
        }
        own.set_predecessor(None)?;
        aside.remove()?;
        for other in others {
            let to_other = other.predecessor().is_some_and(|from| from == own);
            match (other.linked().is_empty(), own.linked().is_empty()) {
                (true, _) if to_other || Layout::read(&other)?.is_some() => other.remove()?,
                // Of a version that knows nothing of these: it is left alone.
                (true, _) => {}
                (false, _) if to_other => {
                    return Err(LoadError::Unfinished { path: other.dir().to_owned() });
                }
                (false, true) => {
                    let old = Old::open(other)?;
                    own.remove()?;
                    return Ok(Found::Foreign(Box::new(old)));
                }
                (false, false) => {
                    let (one, other) = (own.dir().to_owned(), other.dir().to_owned());
                    return Err(LoadError::Several { one, other });
                }
            }
        }
        return adopt(&own)
            .map(|tables| tables.map_or(Found::Nothing, |tables| Found::Own(Box::new(tables))));
    }
    let linked: Vec<_> = others.iter().filter(|pins| !pins.linked().is_empty()).collect();
    if let [one, other, ..] = linked[..] {
        let (one, other) = (one.dir().to_owned(), other.dir().to_owned());
        return Err(LoadError::Several { one, other });
    }
    let described = |pins: &&Pins| Layout::read(pins).is_ok_and(|layout| layout.is_some());
    let other = linked.first().copied().or_else(|| others.iter().rfind(described));
    let Some(other) = other else { return Ok(Found::Nothing) };
    if other.predecessor().is_some_and(|from| from.exist()) {
        return Err(LoadError::Unfinished { path: other.dir().to_owned() });
    }
    Ok(Found::Foreign(Box::new(Old::open(other.clone())?)))
}

/// Takes all versions' programs and tables away: how many interfaces they were on, or `None` if nothing was there.
///
/// # Errors
/// A pin cannot be removed.
pub fn remove_all(bpffs: &Bpffs) -> Result<Option<usize>, LoadError> {
    let with_those_beside = |pins: Pins| pins.beside().into_iter().chain([pins]);
    let all = Pins::of_all(bpffs).into_iter().flat_map(with_those_beside);
    let all: Vec<_> = all.filter(Pins::exist).collect();
    let interfaces = all.iter().map(|pins| pins.linked().len()).sum();
    all.iter().try_for_each(Pins::remove)?;
    Ok((!all.is_empty()).then_some(interfaces))
}
