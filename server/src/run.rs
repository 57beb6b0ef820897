//! The life of a server: listen, open, serve, stop.
//!
//! 1. The addresses are bound, before anything of the database is touched. `Err`: nothing has happened.
//! 2. Threads begin to serve; PING and INFO are answered, the rest is `LOADING`.
//! 3. The database is opened, which recovers it where it must. `Err`: the server ends.
//! 4. A signal, or SHUTDOWN: nothing more is accepted; connections finish what they execute and close,
//!    within [`STOP_TIME_MAX`].
//! 5. The database is closed: every page written, a checkpoint taken, the clean mark set. A crash before
//!    its end is an ordinary crash.
//!
//! A second signal ends the process at once, which is as safe as a kill.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use seawall::Error;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use crate::clients::Client;
use crate::config::Config;
use crate::connection;
use crate::keyspace::{Keyspace, Purger};
use crate::server::{Server, Stage};

/// How long connections may take to finish when the server stops.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// Time between two looks whether all connections are gone.
const STOP_LOOK: Duration = Duration::from_millis(5);
/// A connection that is silent for so long is asked by the system whether its peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(300);
/// How long accepting rests when the process has no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A server that runs in threads of this process.
#[derive(Debug)]
pub struct RunningServer {
    server: Arc<Server>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    opener: JoinHandle<Result<Purger, ServeError>>,
}

/// Why a server ended, or did not begin.
#[derive(Debug)]
pub enum ServeError {
    /// An address could not be bound, or threads not started.
    Io(io::Error),
    /// The database could not be opened or closed.
    Database(Error),
    /// Beyond loopback a password has to be asked for.
    Unprotected(SocketAddr),
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Database(error) => write!(f, "{error}"),
            Self::Unprotected(address) => write!(
                f,
                "{address} is not a loopback address: clients from elsewhere need a password, and none is set"
            ),
        }
    }
}

impl std::error::Error for ServeError {}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Starts a server. It accepts connections when this returns; the database may be opening still.
///
/// # Errors
/// [`ServeError::Unprotected`], [`ServeError::Io`].
pub fn start(config: Config) -> Result<RunningServer, ServeError> {
    if config.password.is_none()
        && let Some(&open) = config.listen.iter().find(|address| !address.ip().is_loopback())
    {
        return Err(ServeError::Unprotected(open));
    }
    let mut listeners = Vec::new();
    for address in &config.listen {
        let listener = StdListener::bind(address).map_err(|error| {
            io::Error::new(error.kind(), format!("{address} cannot be bound: {error}"))
        })?;
        listener.set_nonblocking(true)?;
        listeners.push(listener);
    }
    let addresses = listeners.iter().map(StdListener::local_addr).collect::<io::Result<_>>()?;
    let server = Arc::new(Server::new(config, run_id()?));
    server.listens(addresses);

    let mut threads = Vec::new();
    let mut workers = Vec::new();
    for number in 0..server.config.threads.max(1) {
        let (sender, receiver) = unbounded_channel();
        let server = Arc::clone(&server);
        let name = format!("seawall-serve-{number}");
        threads.push(spawn(name, move || work(&server, receiver))?);
        workers.push(sender);
    }
    let accepting = Arc::clone(&server);
    threads.push(spawn("seawall-accept".into(), move || accept(&accepting, listeners, &workers))?);
    let opening = Arc::clone(&server);
    let opener =
        std::thread::Builder::new().name("seawall-open".into()).spawn(move || open(&opening))?;
    Ok(RunningServer { server, threads, opener })
}

fn spawn(
    name: String,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name(name).spawn(run)
}

fn run_id() -> io::Result<String> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Opens the database, and begins to delete expired keys. Where that fails, the server stops.
fn open(server: &Server) -> Result<Purger, ServeError> {
    let opened = open_keyspace(server);
    if opened.is_err() {
        server.stop();
    }
    opened
}

fn open_keyspace(server: &Server) -> Result<Purger, ServeError> {
    let progress = server.progress();
    let options = server.config.options.clone().on_event(move |event| progress.note(event));
    let keyspace = Keyspace::open(&server.config.dir, options).map_err(ServeError::Database)?;
    let keyspace = Arc::new(keyspace);
    let purger = Purger::start(&keyspace)?;
    server.opened(keyspace);
    Ok(purger)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// A connection that has its place, on its way to the thread that serves it.
type Admitted = (StdStream, Arc<Client>);

/// One thread's share of the connections.
fn work(server: &Arc<Server>, mut admitted: UnboundedReceiver<Admitted>) -> io::Result<()> {
    let local = LocalSet::new();
    runtime()?.block_on(local.run_until(async move {
        while let Some((stream, client)) = admitted.recv().await {
            match prepare(stream) {
                Ok(stream) => {
                    let served = connection::serve(Arc::clone(server), stream, client);
                    tokio::task::spawn_local(served);
                }
                // A stream that is broken already is no matter of the server.
                Err(_) => server.clients.leave(client.id),
            }
        }
        finish(server).await;
        Ok(())
    }))
}

fn prepare(stream: StdStream) -> io::Result<TcpStream> {
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    // A peer whose machine is gone sends no end: what it holds, a snapshot for one, is to go with it.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    // Where the system does not do that, it is served all the same.
    drop(SockRef::from(&stream).set_tcp_keepalive(&keepalive));
    Ok(stream)
}

/// Gives a connection a place and hands it on, unless there are too many. In the thread that accepts: one
/// that serves may be busy, and what waits for it has a descriptor each.
fn admit(
    server: &Server,
    mut stream: StdStream,
    worker: &UnboundedSender<Admitted>,
) -> io::Result<()> {
    let (address, local) = (stream.peer_addr()?, stream.local_addr()?);
    let most = server.settings.clients_max.load(Ordering::Relaxed);
    let Some(client) = server.clients.enter(address, local, most) else {
        server.stats.rejected.fetch_add(1, Ordering::Relaxed);
        // The buffer of a new connection takes it at once.
        return stream.write_all(b"-ERR max number of clients reached\r\n");
    };
    server.stats.connections.fetch_add(1, Ordering::Relaxed);
    let id = client.id;
    if worker.send((stream, client)).is_err() {
        // The worker is gone: the server stops.
        server.clients.leave(id);
    }
    Ok(())
}

/// Waits until the connections are gone, or have had their time.
async fn finish(server: &Server) {
    let until = Instant::now() + STOP_TIME_MAX;
    while server.clients.count() > 0 && Instant::now() < until {
        tokio::time::sleep(STOP_LOOK).await;
    }
}

/// Accepts connections and deals them out in turn, until the server stops.
fn accept(
    server: &Server,
    listeners: Vec<StdListener>,
    workers: &[UnboundedSender<Admitted>],
) -> io::Result<()> {
    let local = LocalSet::new();
    runtime()?.block_on(local.run_until(async {
        let next = std::cell::Cell::new(0_usize);
        let mut stage = server.stage();
        let (sender, mut accepted) = unbounded_channel();
        for listener in listeners {
            let (listener, sender) = (TcpListener::from_std(listener)?, sender.clone());
            tokio::task::spawn_local(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            if sender.send(stream).is_err() {
                                return;
                            }
                        }
                        // No descriptor is left, or the peer has gone: others will end.
                        Err(_) => tokio::time::sleep(ACCEPT_REST).await,
                    }
                }
            });
        }
        loop {
            tokio::select! {
                _ = stage.wait_for(|stage| *stage == Stage::Stopping) => return Ok(()),
                Some(stream) = accepted.recv() => {
                    let number = next.get();
                    next.set((number + 1) % workers.len());
                    // One that is broken already is no matter of the server.
                    let stream = stream.into_std();
                    drop(stream.and_then(|stream| admit(server, stream, &workers[number])));
                }
            }
        }
    }))
}

impl RunningServer {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.server.addresses()
    }

    /// Ends the server as a signal does.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// A handle that ends the server from elsewhere.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + use<> {
        let server = Arc::clone(&self.server);
        move || server.stop()
    }

    /// Serves until the server is stopped, then closes the database.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn wait(self) -> Result<(), ServeError> {
        let mut failed = None;
        for thread in self.threads {
            let ended =
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")));
            failed = failed.or(ended.err());
        }
        let opened = self.opener.join();
        drop(opened.map_err(|_| io::Error::other("opening has panicked"))??);
        if let Some(keyspace) = self.server.keyspace() {
            keyspace.engine.clone().close().map_err(ServeError::Database)?;
        }
        failed.map_or(Ok(()), |error| Err(ServeError::Io(error)))
    }
}

/// Serves until SIGTERM or SIGINT; a second one ends the process.
///
/// # Errors
/// [`ServeError`].
pub fn serve(config: Config, ready: impl FnOnce(&[SocketAddr])) -> Result<(), ServeError> {
    let running = start(config)?;
    ready(&running.addresses());
    let stop = running.stopper();
    spawn("seawall-signals".into(), move || watch_signals(&stop))?;
    running.wait()
}

fn watch_signals(stop: &dyn Fn()) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut is_first = true;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if !is_first {
                std::process::exit(1);
            }
            stop();
            is_first = false;
        }
    })
}
