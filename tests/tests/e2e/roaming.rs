//! Roaming: of clients, of impostors, of silent clients, and of addresses.

use lab::layout::plan::Family;
use lab::peer::Implementation::{Boringtun, WireguardGo};
use lab::scenario::{address_reused, idle_clients, impostor, roam, two_behind_one_address};

use crate::common::{farm, holds};

#[test]
fn a_client_roams_again_and_again() {
    let (_place, mut farm) = farm();
    let member = farm.join(0, WireguardGo, Family::V4).unwrap();
    for moves in 1..=3 {
        let roamed = roam(&mut farm, member).unwrap();
        holds(&roamed);
        assert_eq!(roamed.after.moves, moves);
    }
}

#[test]
fn an_impostor_moves_nothing() {
    let (_place, mut farm) = farm();
    for family in [Family::V4, Family::V6] {
        let member = farm.join(0, WireguardGo, family).unwrap();
        holds(&impostor(&farm, member).unwrap());
    }
    // And the client itself still can.
    holds(&roam(&mut farm, 0).unwrap());
}

#[test]
fn silent_wireguard_go_clients_keep_their_concentrators() {
    let (_place, mut farm) = farm();
    holds(&idle_clients(&mut farm, 0, WireguardGo, 4).unwrap());
}

#[test]
fn silent_boringtun_clients_keep_their_concentrators() {
    let (_place, mut farm) = farm();
    holds(&idle_clients(&mut farm, 0, Boringtun, 4).unwrap());
}

#[test]
fn clients_behind_one_address_keep_their_concentrators() {
    let (_place, mut farm) = farm();
    for implementation in [WireguardGo, Boringtun] {
        holds(&two_behind_one_address(&mut farm, 0, implementation).unwrap());
    }
}

#[test]
fn a_reused_address_and_port_mislead_nobody() {
    let (_place, mut farm) = farm();
    for implementation in [WireguardGo, Boringtun] {
        holds(&address_reused(&mut farm, 0, implementation).unwrap());
    }
}
