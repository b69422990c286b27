//! The connections that are open, and which of them ends when there are too many.
//!
//! A new connection is always taken. If all permits are held, the one ends for it that has waited for a request for the
//! longest time, where the time of an answer counts a quarter. If one peer has more than a quarter of all, it is one of
//! that peer's. So neither idle nor stalled connections keep others out, and no peer can take most permits.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};

use crate::{deadline::Deadline, lock};

/// The bits of an IPv6 address that a peer does not choose by itself.
const IPV6_NETWORK: u128 = !0 << 64;

/// A peer with more than this part of the permits has too many.
const FAIR_PART: usize = 4;

/// The open connections of all listeners.
#[derive(Clone)]
pub(crate) struct Connections {
    max: usize,
    open: Arc<Mutex<Open>>,
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct Open {
    next_id: u64,
    connections: HashMap<u64, Connection>,
}

struct Connection {
    peer: Option<IpAddr>,
    deadline: Deadline,
    task: AbortHandle,
}

/// Counts a connection as open until it is dropped.
pub(crate) struct Registered {
    connections: Connections,
    id: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connections {
    /// At most `max` connections.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, open: Arc::default(), permits: Arc::new(Semaphore::new(max.max(1))) }
    }

    /// A permit for a connection, and whether another one ends for it, which no longer has it by then.
    async fn permit(&self) -> (Option<OwnedSemaphorePermit>, bool) {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return (Some(permit), false);
        }
        lock(&self.open).end_stalest(self.max / FAIR_PART);
        // None once the semaphore is closed, which it never is.
        (Arc::clone(&self.permits).acquire_owned().await.ok(), true)
    }

    /// Registers the connection that `spawn` serves in a task, once there is a permit for it. Returns whether another one had
    /// to end for it.
    pub(crate) async fn register(
        &self,
        peer: Option<IpAddr>,
        deadline: Deadline,
        spawn: impl FnOnce(Registered) -> AbortHandle,
    ) -> bool {
        let (permit, ended_another) = self.permit().await;
        let mut open = lock(&self.open);
        let id = open.next_id;
        open.next_id += 1;
        let task = spawn(Registered { connections: self.clone(), id, _permit: permit });
        open.connections.insert(id, Connection { peer: peer.map(network), deadline, task });
        ended_another
    }
}

impl Open {
    fn end_stalest(&mut self, fair: usize) {
        if let Some(connection) = self.stalest(fair).and_then(|id| self.connections.remove(&id)) {
            connection.task.abort();
        }
    }

    /// The one that has waited for the longest time, among all or those of the peer that has more than is fair.
    fn stalest(&self, fair: usize) -> Option<u64> {
        let mut of_peers: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for connection in self.connections.values() {
            *of_peers.entry(connection.peer).or_default() += 1;
        }
        let unfair = of_peers.values().max().filter(|most| **most > fair);
        let is_candidate = |connection: &Connection| unfair.is_none() || of_peers.get(&connection.peer) == unfair;
        let candidates = self.connections.iter().filter(|(_, connection)| is_candidate(connection));
        candidates.max_by_key(|(_, connection)| connection.deadline.staleness()).map(|(id, _)| *id)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.connections.open).connections.remove(&self.id);
    }
}

/// Stands for a peer: one may have many IPv6 addresses, and all of one network count as one peer's.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & IPV6_NETWORK).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Scene {
        connections: Connections,
        tasks: Vec<tokio::task::JoinHandle<()>>,
        deadlines: Vec<Deadline>,
    }

    impl Scene {
        fn new(max: usize) -> Self {
            Self { connections: Connections::new(max), tasks: Vec::new(), deadlines: Vec::new() }
        }

        /// A connection that lasts until it is ended, a second after the one before.
        async fn open(&mut self, peer: &str) -> bool {
            tokio::time::advance(Duration::from_secs(1)).await;
            let (deadline, tasks) = (Deadline::new(), &mut self.tasks);
            self.deadlines.push(deadline.clone());
            let registering = self.connections.register(Some(peer.parse().unwrap()), deadline, |registered| {
                let task = tokio::spawn(async move {
                    let _registered = registered;
                    std::future::pending::<()>().await;
                });
                let abort = task.abort_handle();
                tasks.push(task);
                abort
            });
            let ended = registering.await;
            tokio::task::yield_now().await;
            ended
        }

        fn ended(&self) -> Vec<usize> {
            (0..self.tasks.len()).filter(|index| self.tasks[*index].is_finished()).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_ends_the_one_that_has_waited_for_the_longest_time() {
        let mut scene = Scene::new(3);
        for _ in 0..3 {
            assert!(!scene.open("192.0.2.1").await);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        scene.deadlines[0].starts();
        assert!(scene.open("192.0.2.1").await);
        assert_eq!(scene.ended(), [1]);
        assert!(scene.open("192.0.2.1").await);
        assert_eq!(scene.ended(), [1, 2]);
        assert_eq!(lock(&scene.connections.open).connections.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_answered_outlasts_idle_ones_unless_it_stalls() {
        let mut scene = Scene::new(3);
        scene.open("192.0.2.1").await;
        let _answering = scene.deadlines[0].answer_begins();
        for _ in 0..7 {
            scene.open("192.0.2.1").await;
        }
        assert_eq!(scene.ended(), [1, 2, 3, 4, 5]);
        for _ in 0..3 {
            scene.open("192.0.2.1").await;
        }
        assert_eq!(scene.ended()[0], 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_its_permit_once_the_one_that_ends_for_it_is_gone() {
        let mut scene = Scene::new(1);
        scene.open("192.0.2.1").await;
        let (permit, ended_another) = scene.connections.permit().await;
        assert!(permit.is_some() && ended_another);
        assert_eq!(scene.ended(), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_with_many_connections_ends_its_own_and_no_other_peers() {
        let mut scene = Scene::new(4);
        scene.open("192.0.2.1").await;
        for host in 1..=6 {
            scene.open(&format!("2001:db8::{host}")).await;
        }
        assert_eq!(scene.ended(), [1, 2, 3], "one network is one peer, and the oldest connection is another one's");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_of_a_peer_with_some_connections_outlast_idle_connections_of_peers_with_one() {
        let mut scene = Scene::new(8);
        for host in 1..=6 {
            scene.open(&format!("192.0.2.{host}")).await;
        }
        let mut answering = Vec::new();
        for index in 6..8 {
            scene.open("192.0.2.7").await;
            answering.push(scene.deadlines[index].answer_begins());
        }
        for host in 8..=12 {
            scene.open(&format!("192.0.2.{host}")).await;
        }
        assert_eq!(scene.ended(), [0, 1, 2, 3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ended_gives_its_permit_back() {
        let mut scene = Scene::new(1);
        scene.open("192.0.2.1").await;
        scene.tasks[0].abort();
        tokio::task::yield_now().await;
        assert!(!scene.open("192.0.2.1").await);
    }
}
