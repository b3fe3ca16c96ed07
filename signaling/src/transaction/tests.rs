//! Each timer of RFC 3261 section 17, by its letter.

use super::*;

fn at(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

/// Runs a client until it ends; when it sent again, and how it ended.
fn run_client(mut client: ClientTransaction, start: Instant) -> (Vec<u128>, OnTimeout, u128) {
    let mut sent = Vec::new();
    let mut last = OnTimeout::Nothing;
    let mut end = start;
    while let Some(next) = client.poll_timeout() {
        end = next;
        last = client.on_timeout(next);
        if last == OnTimeout::Resend {
            sent.push((next - start).as_millis());
        }
    }
    assert_eq!(client.state(), ClientState::Terminated);
    (sent, last, (end - start).as_millis())
}

#[test]
fn timers_a_and_b_invite_is_repeated_at_doubling_intervals_for_32_s() {
    let start = Instant::now();
    let (sent, how, end) = run_client(ClientTransaction::new(start, true, false), start);
    assert_eq!(sent, [500, 1500, 3500, 7500, 15500, 31500]);
    assert_eq!((how, end), (OnTimeout::TimedOut, 32000));
}

#[test]
fn timers_e_and_f_other_requests_are_repeated_at_intervals_up_to_t2() {
    let start = Instant::now();
    let (sent, how, end) = run_client(ClientTransaction::new(start, false, false), start);
    assert_eq!(sent, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
    assert_eq!((how, end), (OnTimeout::TimedOut, 32000));
}

#[test]
fn a_provisional_response_stops_an_invite_from_being_repeated_but_slows_down_others_only() {
    let start = Instant::now();
    let mut invite = ClientTransaction::new(start, true, false);
    assert!(invite.on_response(at(start, 100), 180).deliver);
    assert_eq!(invite.poll_timeout(), None);
    let mut register = ClientTransaction::new(start, false, false);
    assert!(register.on_response(at(start, 100), 100).deliver);
    let (sent, how, end) = run_client(register, start);
    assert_eq!(sent, [500, 4500, 8500, 12500, 16500, 20500, 24500, 28500]);
    assert_eq!((how, end), (OnTimeout::TimedOut, 32000));
}

#[test]
fn timer_d_a_refusal_is_acknowledged_each_time_it_comes_for_32_s() {
    let start = Instant::now();
    let mut client = ClientTransaction::new(start, true, false);
    assert_eq!(client.on_response(at(start, 50), 486), OnResponse { deliver: true, acknowledge: true });
    assert_eq!(client.on_response(at(start, 600), 486), OnResponse { deliver: false, acknowledge: true });
    assert_eq!(client.on_response(at(start, 700), 200), OnResponse { deliver: false, acknowledge: false });
    assert_eq!(run_client(client, start), (vec![], OnTimeout::Nothing, 32050));
}

#[test]
fn timer_k_a_final_response_to_others_is_absorbed_for_5_s() {
    let start = Instant::now();
    let mut client = ClientTransaction::new(start, false, false);
    assert_eq!(client.on_response(start, 200), OnResponse { deliver: true, acknowledge: false });
    assert_eq!(client.on_response(at(start, 10), 200), OnResponse { deliver: false, acknowledge: false });
    assert_eq!(run_client(client, start), (vec![], OnTimeout::Nothing, 5000));
}

#[test]
fn timer_m_every_2xx_to_an_invite_is_handed_up_for_32_s() {
    let start = Instant::now();
    let mut client = ClientTransaction::new(start, true, false);
    for _ in 0..3 {
        assert_eq!(client.on_response(start, 200), OnResponse { deliver: true, acknowledge: false });
    }
    assert_eq!(client.on_response(start, 486), OnResponse { deliver: false, acknowledge: false });
    assert_eq!(run_client(client, start), (vec![], OnTimeout::Nothing, 32000));
}

/// Runs a server until it ends; when it sent again, and how it ended.
fn run_server(mut server: ServerTransaction, start: Instant) -> (Vec<u128>, OnTimeout, u128) {
    let mut sent = Vec::new();
    let mut last = OnTimeout::Nothing;
    let mut end = start;
    while let Some(next) = server.poll_timeout() {
        end = next;
        last = server.on_timeout(next);
        if last == OnTimeout::Resend {
            sent.push((next - start).as_millis());
        }
    }
    assert_eq!(server.state(), ServerState::Terminated);
    (sent, last, (end - start).as_millis())
}

#[test]
fn timers_g_and_h_a_refusal_is_repeated_until_acknowledged_or_for_32_s() {
    let start = Instant::now();
    let mut server = ServerTransaction::new(true, false);
    assert!(server.on_answer(start, 486));
    assert!(!server.on_answer(start, 200), "there is one final response");
    let (sent, how, end) = run_server(server, start);
    assert_eq!(sent, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
    assert_eq!((how, end), (OnTimeout::TimedOut, 32000));
}

#[test]
fn timer_i_after_the_ack_repeated_acks_are_absorbed_for_5_s() {
    let start = Instant::now();
    let mut server = ServerTransaction::new(true, false);
    server.on_answer(start, 486);
    server.on_ack(at(start, 100));
    server.on_ack(at(start, 200));
    assert!(!server.on_repeated(), "the INVITE is not answered any more");
    assert_eq!(run_server(server, start), (vec![], OnTimeout::Nothing, 5100));
}

#[test]
fn timer_j_repeated_requests_get_the_same_answer_for_32_s() {
    let start = Instant::now();
    let mut server = ServerTransaction::new(false, false);
    server.on_answer(start, 200);
    assert!(server.on_repeated());
    assert_eq!(run_server(server, start), (vec![], OnTimeout::Nothing, 32000));
}

#[test]
fn timer_l_after_a_2xx_repeated_invites_are_absorbed_for_32_s() {
    let start = Instant::now();
    let mut server = ServerTransaction::new(true, false);
    assert!(server.on_answer(start, 100) && server.on_answer(start, 180) && server.on_repeated());
    assert_eq!(server.poll_timeout(), None, "an unanswered INVITE waits for its user");
    server.on_answer(start, 200);
    assert_eq!(server.state(), ServerState::Accepted);
    assert!(!server.on_repeated());
    assert_eq!(run_server(server, start), (vec![], OnTimeout::Nothing, 32000));
}

#[test]
fn over_a_stream_nothing_is_sent_again_and_nothing_is_waited_for() {
    let start = Instant::now();
    let (sent, how, end) = run_client(ClientTransaction::new(start, true, true), start);
    assert_eq!((sent.len(), how, end), (0, OnTimeout::TimedOut, 32000));

    let mut invite = ClientTransaction::new(start, true, true);
    assert!(invite.on_response(start, 486).acknowledge);
    assert_eq!(invite.state(), ClientState::Terminated);
    let mut bye = ClientTransaction::new(start, false, true);
    bye.on_response(start, 200);
    assert_eq!(bye.state(), ClientState::Terminated);

    let mut refused = ServerTransaction::new(true, true);
    assert!(refused.on_answer(start, 486));
    assert_eq!(refused.poll_timeout(), Some(start + TIMEOUT), "only timer H");
    refused.on_ack(start);
    assert_eq!(refused.state(), ServerState::Terminated);
    let mut options = ServerTransaction::new(false, true);
    options.on_answer(start, 200);
    assert_eq!(options.state(), ServerState::Terminated);
    // another fork's 2xx can still come, by another connection
    let mut forked = ClientTransaction::new(start, true, true);
    forked.on_response(start, 200);
    assert_eq!(forked.state(), ClientState::Accepted);
}
