//! SIP signaling: a sans-IO user agent and a thin mio loop around it.
