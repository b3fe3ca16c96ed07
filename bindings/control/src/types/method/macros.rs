//! What many requests have in common.

/// A request that names a call and nothing else.
macro_rules! about_call {
    ($($(#[$doc:meta])* $name:literal $kind:ident => $reply:ty),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        pub struct $kind {
            /// Which call.
            pub call: CallId,
        }

        impl Request for $kind {
            const NAME: &'static str = $name;
            type Reply = $reply;
        }
    )*};
}
