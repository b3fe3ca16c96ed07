//! Answers to our requests, and their absence: whose they are, credentials for those who may have them, and the next server
//! when one fails (RFC 3263 section 4.3).

use std::{net::SocketAddr, time::Instant};

use super::{
    UserAgent,
    outgoing::{Client, Lost, Outgoing, Owner, refusal_ack},
};
use crate::{
    auth::{self, Challenge},
    call::{ClientKey, State},
    message::{Meta, Method, Request, Response},
    transaction::{ClientState, OnTimeout},
    transport::Peer,
};

impl UserAgent {
    /// A response came.
    pub(super) fn on_response(&mut self, now: Instant, response: Response, meta: Meta) {
        let key = ClientKey { branch: meta.via.branch().to_owned(), cancel: meta.method == Method::Cancel };
        let Some(client) = self.clients.get_mut(&key) else {
            self.counters.stray_responses += 1;
            return;
        };
        // the branch alone is unguessable; the rest tells a confused server from ours
        let ours = client.request.method == meta.method
            && client.request.headers.get("Call-ID") == Some(meta.call_id.as_str());
        if !ours {
            self.counters.stray_responses += 1;
            return;
        }
        client.fail_over_at = None;
        self.names.answered(&client.to);
        let step = client.machine.on_response(now, response.status);
        if step.acknowledge {
            let ack = refusal_ack(&client.request, &response);
            let to = client.to.clone();
            self.transmit(to, ack.to_bytes());
        }
        if step.deliver {
            self.deliver(now, &key, response, meta);
        }
        self.refresh_client(&key);
    }

    fn deliver(&mut self, now: Instant, key: &ClientKey, response: Response, meta: Meta) {
        let Some(client) = self.clients.get(key) else { return };
        let owner = client.owner.clone();
        let mut refused = None;
        let wanted = self.is_wanted(key);
        if matches!(response.status, 401 | 407) && wanted {
            match self.authenticate(key, &response) {
                Ok(again) => return self.send(now, again),
                Err(why) => refused = Some(why),
            }
        }
        // case 37: a server that cannot is replaced; one that says no, or busy, has answered for all
        if matches!(response.status, 500 | 502 | 503 | 504 | 408) && wanted && self.fail_over(now, key) {
            return;
        }
        match owner {
            Owner::Invite(id) => self.on_invite_response(now, id, key, response, meta, refused),
            Owner::InDialog(id, ask) => self.on_dialog_response(now, (id, ask), key, response, meta, refused),
            Owner::Register(account) => self.on_register_response(now, account, key, &response, &meta, refused),
            Owner::Options(account) if response.status >= 200 => self.on_options_answered(account),
            Owner::Options(_) | Owner::Ack { .. } | Owner::Nobody => {}
        }
    }

    /// Somebody still waits for an answer to this request: it has not been given up, or replaced by another try.
    fn is_wanted(&self, key: &ClientKey) -> bool {
        let Some(client) = self.clients.get(key) else { return false };
        match &client.owner {
            Owner::Invite(id) => self.is_current_invite(*id, key),
            Owner::InDialog(id, ask) => self.is_dialog_request_wanted(*id, ask, key),
            Owner::Register(index) => self.accounts.get(*index).is_some_and(|account| {
                let number = client.request.headers.get("CSeq").and_then(|c| c.split(' ').next()?.parse().ok());
                number.is_some_and(|number| account.registration.is_current(number))
            }),
            _ => true,
        }
    }

    /// The same request again, with credentials; or why they are not given (cases 10 to 12).
    fn authenticate(&mut self, key: &ClientKey, response: &Response) -> Result<Outgoing, String> {
        let client = self.clients.get(key).ok_or("the request is gone")?;
        let Some((index, account)) = client.account.and_then(|i| Some((i, self.accounts.get(i)?))) else {
            return Err("the other side asks for a password, and the call belongs to no account".into());
        };
        if !account.addresses.contains(&client.to.address.ip()) {
            return Err(format!("{} asks for a password, but is no host of this account", client.to.address.ip()));
        }
        let proxy = response.status == 407;
        let name = if proxy { "Proxy-Authenticate" } else { "WWW-Authenticate" };
        let offered = response.headers.values(name).filter_map(|v| Challenge::read(v, proxy));
        let challenge =
            auth::choose(offered, account.config.realm.as_deref(), account.floor).map_err(|e| e.to_string())?;
        // once per request, and once more only if the server says that just the nonce was too old
        if client.tries > 0 && !(challenge.stale && client.tries < 2) {
            return Err("the user name or password is wrong".into());
        }
        let owner = client.owner.clone();
        let mut again = self.once_more(client);
        again.to = Some(client.to.clone());
        again.tries += 1;
        let old = again.request.headers.get("CSeq").and_then(|c| c.split(' ').next()?.parse::<u32>().ok()).unwrap_or(0);
        let Some(account) = self.accounts.get_mut(index) else { return Err("the account is gone".into()) };
        account.floor = account.floor.max(Some(challenge.algorithm));
        let cseq = if let Owner::Register(_) = owner {
            account.registration.challenge = Some((challenge.clone(), 1));
            account.registration.ask()
        } else {
            self.next_cseq(&owner, old)
        };
        again.request.headers.remove("Authorization");
        again.request.headers.remove("Proxy-Authorization");
        again.request.headers.set("CSeq", format!("{cseq} {}", again.request.method));
        self.add_credentials(&mut again.request, index, &challenge, 1);
        Ok(again)
    }

    pub(super) fn add_credentials(&mut self, request: &mut Request, index: usize, challenge: &Challenge, count: u32) {
        let cnonce = self.random_token();
        let Some(account) = self.accounts.get(index) else { return };
        let (user, password) = (account.config.auth_user(), &account.config.password);
        let uri = request.uri.to_string();
        let value = challenge.authorization(user, password, request.method.as_str(), &uri, &cnonce, count);
        let name = if challenge.proxy { "Proxy-Authorization" } else { "Authorization" };
        request.headers.push(name, value);
    }

    /// A request of ours as it was before it was sent.
    pub(super) fn once_more(&self, client: &Client) -> Outgoing {
        let mut request = client.request.clone();
        request.headers.remove("Via");
        if matches!(client.owner, Owner::Register(_)) || request.method.is_target_refresh() {
            request.headers.remove("Contact");
        }
        Outgoing {
            request,
            owner: client.owner.clone(),
            account: client.account,
            hop: client.hop.clone(),
            backups: client.backups.clone(),
            to: None,
            tries: client.tries,
            reordered: client.reordered,
            large_by_udp: client.large_by_udp,
        }
    }

    /// Sends a request to the next server that may serve it, if there is one and the request is still wanted.
    fn fail_over(&mut self, now: Instant, key: &ClientKey) -> bool {
        let wanted = self.is_wanted(key);
        let Some(client) = self.clients.get_mut(key) else { return false };
        let to = client.to.clone();
        self.names.failed(now, &to);
        if !client.has_alternative() || !wanted || key.cancel {
            return false;
        }
        let ways = std::mem::take(&mut client.rest);
        let Some(client) = self.clients.get(key) else { return false };
        let mut again = self.once_more(client);
        // a new REGISTER has a new number, and answers to the old one are news of yesterday
        if let Owner::Register(index) = again.owner
            && let Some(account) = self.accounts.get_mut(index)
        {
            let cseq = account.registration.ask();
            again.request.headers.set("CSeq", format!("{cseq} REGISTER"));
        }
        self.send_by(now, again, ways);
        true
    }

    pub(super) fn on_client_timer(&mut self, now: Instant, key: &ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let overdue = client.fail_over_at.take_if(|at| now >= *at).is_some();
        if overdue && client.machine.state() == ClientState::Calling {
            // this one goes on, so that a late answer of the first server finds somebody
            self.fail_over(now, key);
        }
        let Some(client) = self.clients.get_mut(key) else { return };
        match client.machine.on_timeout(now) {
            OnTimeout::Nothing => {}
            OnTimeout::Resend => {
                let (to, bytes) = (client.to.clone(), client.bytes.clone());
                self.transmit_again(to, bytes);
            }
            OnTimeout::TimedOut => self.give_up_client(now, key, Lost::Timeout),
        }
        self.refresh_client(key);
    }

    /// The system says that nobody is there. Once may be old news, of a datagram to somebody who was there before; what is
    /// still not answered the second time, after it was sent again, will not be.
    pub(super) fn on_unreachable(&mut self, now: Instant, to: SocketAddr) {
        let to = Peer::udp(to);
        let mut given_up = Vec::new();
        for (key, client) in self.clients.iter_mut() {
            let unanswered = client.to.is_same_place(&to) && client.machine.state() == ClientState::Calling;
            if unanswered && std::mem::replace(&mut client.refused, true) {
                given_up.push(key.clone());
            }
        }
        for key in given_up {
            self.give_up_client(now, &key, Lost::Network("nobody is there, or there is no way there".into()));
        }
    }

    /// A connection broke, or could not be made. Over a connection that broke a request may never have arrived: it is sent
    /// once more, by a new one.
    pub(super) fn on_closed(&mut self, now: Instant, peer: &Peer, reason: &str) {
        let broke = peer.connection.is_some();
        let (mut again, mut given_up) = (Vec::new(), Vec::new());
        for (key, client) in self.clients.iter_mut() {
            let by_it = client.to.is_same_place(peer) || broke && client.to.connection == peer.connection;
            if !by_it || client.machine.state() != ClientState::Calling {
                continue;
            }
            let by_accepted = client.to.connection.is_some();
            if !broke || by_accepted || std::mem::replace(&mut client.refused, true) {
                given_up.push(key.clone());
            } else {
                again.push((client.to.clone(), client.bytes.clone()));
            }
        }
        for (to, bytes) in again {
            self.transmit_again(to, bytes);
        }
        if broke {
            self.forget_flow(now, peer);
        }
        for key in given_up {
            self.give_up_client(now, &key, Lost::Network(reason.to_owned()));
        }
    }

    /// Nothing can come by that connection any more.
    fn forget_flow(&mut self, now: Instant, peer: &Peer) {
        for dialog in self.calls.values_mut().filter_map(|c| c.dialog.as_mut()) {
            dialog.flow.take_if(|flow| flow.connection == peer.connection);
        }
        for index in 0..self.accounts.len() {
            if let Some(account) = self.accounts.get_mut(index) {
                account.registration.connection_lost(now, peer, &mut self.rng);
            }
            self.refresh_account(index);
        }
    }

    /// A request came to nothing with this server.
    fn give_up_client(&mut self, now: Instant, key: &ClientKey, why: Lost) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.machine.terminate();
        let owner = client.owner.clone();
        let wanted = self.is_wanted(key);
        let replaced = self.fail_over(now, key);
        self.refresh_client(key);
        let cancelling = matches!(owner, Owner::Invite(id) if self.is_cancelling(id, key));
        // what is not wanted goes on with another try, which tells of its own end
        if !replaced && (wanted || cancelling) {
            self.lost(now, owner, why);
        }
    }

    /// The call rests on this INVITE: it is the last that was sent for it, and nobody has hung up.
    pub(super) fn is_current_invite(&self, id: crate::event::CallId, key: &ClientKey) -> bool {
        matches!(self.calls.get(&id).map(|c| &c.state), Some(State::Calling(Some(k))) if k == key)
    }

    /// The call was given up while this INVITE was its current one.
    pub(super) fn is_cancelling(&self, id: crate::event::CallId, key: &ClientKey) -> bool {
        matches!(self.calls.get(&id).map(|c| &c.state), Some(State::Cancelling(k)) if k == key)
    }
}
