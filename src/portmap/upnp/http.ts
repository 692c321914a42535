/** What the UPnP client wants done over HTTP. Whoever drives it answers each with `handleHttp`, in bounded time. */
export interface HttpRequest {
  readonly id: number
  /** On the gateway's own address, always. Redirects are not to be followed. */
  readonly url: URL
  /** A POST when there is a body, else a GET. */
  readonly body?: string
  readonly headers: Readonly<Record<string, string>>
}

/** Undefined when there was none: no connection, no answer in time, too long a body. */
export type HttpResponse = { readonly status: number; readonly body: string } | undefined
