//! The hosts' own traffic works as without Fernpass.

use lab::gate;
use lab::gateway::{Config, Gateway};
use lab::peer::Implementation::WireguardGo;
use lab::scenario::own_traffic;
use lab::{Lab, Options};

use crate::common::{PLENTY, holds};

#[test]
fn own_traffic_works_as_without_the_gateway() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = lab.pool("justiz", &[WireguardGo]).unwrap();
    let host = lab.host().unwrap();
    let concentrator = &pool.concentrators()[0];

    let without = own_traffic(&lab, concentrator, &host).unwrap();
    holds(&without);
    let config = Config::new(&lab).with_tenant(&pool, PLENTY);
    let _gateway = Gateway::start(&lab, &config).unwrap();
    let with = own_traffic(&lab, concentrator, &host).unwrap();
    holds(&with);
    assert_eq!(with, without);
}
