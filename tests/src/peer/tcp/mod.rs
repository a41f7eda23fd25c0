//! A service on plain TCP: messages that come back with the tag of the server. Servers and
//! clients are threads of this process.

mod frame;
mod line;
mod load;
mod pool;

pub use line::TcpClient;
pub use load::{RunningLoad, TcpLoad, TcpTally};
pub use pool::{TcpPool, TcpServer};
