/** As much of `ws` as the declarations of the Kubernetes client name; we use none of its WebSocket calls. */
declare module "ws" {
  class WebSocket {}
  namespace WebSocket {
    export { WebSocket };

    export type ClientOptions = object;
    export type Data = string | Buffer | ArrayBuffer | Buffer[];
  }
  export = WebSocket;
}
