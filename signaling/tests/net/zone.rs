//! A name server in the test: a few records, answered over UDP on loopback.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use hickory_resolver::proto::{
    op::{Message, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, NAPTR, SRV},
    },
};

#[derive(Default)]
pub struct Zone {
    records: Vec<Record>,
    /// Names, or names and kinds, that are never answered for.
    silent: Vec<(Name, Option<RecordType>)>,
}

pub fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

impl Zone {
    pub fn with(mut self, at: &str, ttl: u32, data: RData) -> Zone {
        self.records.push(Record::from_rdata(name(at), ttl, data));
        self
    }

    pub fn a(self, at: &str, ttl: u32, ip: &str) -> Zone {
        self.with(at, ttl, RData::A(A(ip.parse().unwrap())))
    }

    pub fn aaaa(self, at: &str, ttl: u32, ip: &str) -> Zone {
        self.with(at, ttl, RData::AAAA(AAAA(ip.parse().unwrap())))
    }

    pub fn cname(self, at: &str, ttl: u32, to: &str) -> Zone {
        self.with(at, ttl, RData::CNAME(CNAME(name(to))))
    }

    pub fn srv(self, at: &str, ttl: u32, (priority, weight, port): (u16, u16, u16), to: &str) -> Zone {
        self.with(at, ttl, RData::SRV(SRV::new(priority, weight, port, name(to))))
    }

    pub fn naptr(self, at: &str, ttl: u32, (order, preference): (u16, u16), service: &str, to: &str) -> Zone {
        let bytes = |text: &str| text.as_bytes().into();
        self.with(at, ttl, RData::NAPTR(NAPTR::new(order, preference, bytes("s"), bytes(service), bytes(""), name(to))))
    }

    pub fn silent(mut self, at: &str, kind: Option<RecordType>) -> Zone {
        self.silent.push((name(at), kind));
        self
    }

    pub fn serve(self) -> Server {
        self.serve_at("127.0.0.1:0")
    }

    pub fn serve_at(self, bind: &str) -> Server {
        let socket = Arc::new(UdpSocket::bind(bind).unwrap());
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (own, noted) = (socket.clone(), asked.clone());
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = own.recv_from(&mut buffer) {
                if length == 0 {
                    return;
                }
                let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
                if let Some(answer) = self.answer(&question, &noted) {
                    own.send_to(&answer.to_vec().unwrap(), from).unwrap();
                }
            }
        });
        Server { address, socket, asked, thread: Some(thread) }
    }

    fn answer(&self, question: &Message, asked: &Mutex<Vec<(Name, RecordType)>>) -> Option<Message> {
        let query = question.queries.first()?;
        let (mut at, kind) = (query.name().to_lowercase(), query.query_type());
        asked.lock().unwrap().push((at.clone(), kind));
        if self.silent.iter().any(|(name, of)| *name == at && of.is_none_or(|of| of == kind)) {
            return None;
        }
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.add_query(Query::query(query.name().clone(), kind));
        let mut known = false;
        loop {
            let here: Vec<_> = self.records.iter().filter(|r| r.name == at).collect();
            known |= !here.is_empty();
            answer.add_answers(here.iter().filter(|r| r.record_type() == kind).map(|r| (*r).clone()));
            let Some((record, next)) = here.iter().find_map(|r| match &r.data {
                RData::CNAME(to) => Some((*r, to.0.clone())),
                _ => None,
            }) else {
                break;
            };
            answer.add_answer(record.clone());
            at = next;
        }
        if !known {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        Some(answer)
    }
}

pub struct Server {
    pub address: SocketAddr,
    socket: Arc<UdpSocket>,
    /// What was asked for.
    pub asked: Arc<Mutex<Vec<(Name, RecordType)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // an empty datagram ends it
        let _ = self.socket.send_to(&[], self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
