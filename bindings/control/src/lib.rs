//! The control protocol of mr-sip: types, framing, server and client.
