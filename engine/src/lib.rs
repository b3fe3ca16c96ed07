//! Real-time media for telephone calls: RTP, playout, the agent's voice, JACK.
