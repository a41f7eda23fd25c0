//! The stack that a program's nested functions take, as Linux 6.1's verifier counts it:
//! newer ones round less, so that a program they take may be too large for older ones.

use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use dataplane::pipeline::Stage;
use libtest_mimic::Failed;
use std::collections::{BTreeMap, BTreeSet};

/// `MAX_BPF_STACK` (linux/filter.h): bytes for all nested frames.
const MOST: usize = 512;
/// What each frame is rounded up to (kernel/bpf/verifier.c, `check_max_stack_depth`).
const FRAME_UNIT: usize = 32;

/// Opcodes (linux/bpf.h, linux/bpf_common.h).
const CALL: u8 = 0x85;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
/// The lowest three bits of an opcode.
const CLASS: u8 = 0x07;
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const ALU: u8 = 0x04;
const ALU64: u8 = 0x07;
/// Source register of a call to a function of the program.
const PSEUDO_CALL: u8 = 1;
/// The frame pointer.
const FRAME: u8 = 10;

/// A function: what it has on the stack, and what it calls.
#[derive(Default)]
struct Function {
    frame: usize,
    calls: BTreeSet<usize>,
}

impl Function {
    /// Reads the instructions from `start` up to the next function's.
    fn read(code: &[bpf_insn], start: usize, end: usize) -> Self {
        let mut function = Self::default();
        // What the registers are above the frame pointer, where that is known.
        let mut above: [Option<i64>; 11] = [None; 11];
        for (at, insn) in code.iter().enumerate().take(end).skip(start) {
            above[usize::from(FRAME)] = Some(0);
            let (to, from) = (usize::from(insn.dst_reg()), usize::from(insn.src_reg()));
            let offset = i64::from(insn.off);
            let touched = match (insn.code, insn.code & CLASS) {
                (CALL, _) => {
                    if insn.src_reg() == PSEUDO_CALL {
                        function.calls.insert(target(at, insn));
                    }
                    above[..6].fill(None);
                    None
                }
                (MOVE, _) => {
                    above[to] = above[from];
                    None
                }
                (ADD, _) => {
                    above[to] = above[to].map(|sum| sum + i64::from(insn.imm));
                    above[to]
                }
                (_, ST | STX) => above[to].map(|sum| sum + offset),
                (_, LDX) => {
                    let read = above[from].map(|sum| sum + offset);
                    above[to] = None;
                    read
                }
                (_, ALU | ALU64) => {
                    above[to] = None;
                    None
                }
                _ => None,
            };
            let below = touched.map_or(0, |sum| usize::try_from(-sum).unwrap_or(0));
            function.frame = function.frame.max(below);
        }
        function
    }
}

/// Where a call leads; `imm` counts from the next instruction.
fn target(at: usize, insn: &bpf_insn) -> usize {
    at.wrapping_add_signed(1 + insn.imm as isize)
}

/// The deepest chain of calls from a function: its frames, outermost first.
fn deepest(functions: &BTreeMap<usize, Function>, at: usize) -> Vec<usize> {
    let function = &functions[&at];
    let chains = function.calls.iter().map(|callee| deepest(functions, *callee));
    let mut chain = chains.max_by_key(|chain| taken(chain)).unwrap_or_default();
    chain.insert(0, function.frame);
    chain
}

fn taken(chain: &[usize]) -> usize {
    chain.iter().map(|frame| (*frame).max(1).next_multiple_of(FRAME_UNIT)).sum()
}

/// Nested frames of each program take no more than [`MOST`] bytes, as Linux 6.1 counts.
pub(crate) fn depth() -> Result<(), Failed> {
    let mut object = Object::parse(crate::gateway::OBJECT).map_err(|e| e.to_string())?;
    let sections = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).map_err(|e| e.to_string())?;
    if object.programs.len() != 1 + Stage::ALL.len() {
        return Err(format!("{} programs", object.programs.len()).into());
    }
    for (name, program) in &object.programs {
        let code = &object.functions[&program.function_key()].instructions;
        let chain = chain(code);
        let taken = taken(&chain);
        println!("{name}: {taken} bytes of stack: frames {chain:?}");
        if !(1..=MOST).contains(&taken) || chain.len() < 2 {
            return Err(format!(
                "{name}: frames {chain:?} take {taken} bytes of stack, of {MOST}: inline less, or pass less"
            )
            .into());
        }
    }
    Ok(())
}

/// The deepest chain of calls in a program.
fn chain(code: &[bpf_insn]) -> Vec<usize> {
    let is_call = |insn: &bpf_insn| insn.code == CALL && insn.src_reg() == PSEUDO_CALL;
    let calls = code.iter().enumerate().filter(|(_, insn)| is_call(insn));
    let mut starts: BTreeSet<usize> = calls.map(|(at, insn)| target(at, insn)).collect();
    starts.insert(0);
    let ends = starts.iter().skip(1).copied().chain([code.len()]);
    let functions: BTreeMap<_, _> = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| (*start, Function::read(code, *start, end)))
        .collect();
    deepest(&functions, 0)
}
