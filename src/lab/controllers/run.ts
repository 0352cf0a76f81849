import type { LabStore, StoreEvent } from "../api/index.ts";
import { TYPES } from "../api/index.ts";
import { EXTERNAL_OWNER, externalEndpoints, wantsExternalEndpoints } from "./external-endpoints.ts";
import type { EndpointSlice, ExternalWorkload, Pod, Service } from "./objects.ts";
import { selects } from "./objects.ts";
import { POD_OWNER, podEndpoints, wantsPodEndpoints } from "./pod-endpoints.ts";
import { type EndpointGroup, MANAGED_BY, planSlices, SERVICE_NAME, type SliceOwner } from "./slices.ts";

/** What a controller could not do; it tries again at the next change. */
export type ProblemListener = (service: string, problem: Error) => void;

interface Controller {
  readonly owner: SliceOwner;
  readonly wants: (service: Service) => boolean;
  readonly endpoints: (service: Service) => readonly EndpointGroup[];
}

/**
 * Keeps the EndpointSlices of all Services: those of pods as Kubernetes does, those of ExternalWorkloads as Linkerd
 * does. Changes of one turn of the event loop are worked off together at its end.
 *
 * @returns The way to stop.
 */
export function startEndpointControllers(store: LabStore, onProblem: ProblemListener = () => {}): () => void {
  const controllers: readonly Controller[] = [
    {
      owner: POD_OWNER,
      wants: wantsPodEndpoints,
      endpoints: (service) => podEndpoints(service, store.list<Pod>(TYPES.pods, service.metadata.namespace)),
    },
    {
      owner: EXTERNAL_OWNER,
      wants: wantsExternalEndpoints,
      endpoints: (service) =>
        externalEndpoints(service, store.list<ExternalWorkload>(TYPES.externalWorkloads, service.metadata.namespace)),
    },
  ];
  const queue = new Map<string, { namespace: string; name: string }>();
  let scheduled: NodeJS.Immediate | undefined;

  const enqueue = (namespace: string, name: string) => {
    queue.set(`${namespace}/${name}`, { namespace, name });
    scheduled ??= setImmediate(work);
  };
  const work = () => {
    scheduled = undefined;
    const due = [...queue.values()];
    queue.clear();
    for (const { namespace, name } of due) {
      for (const controller of controllers) {
        try {
          reconcile(store, controller, namespace, name);
        } catch (error) {
          onProblem(`${namespace}/${name}`, error instanceof Error ? error : new Error(String(error)));
        }
      }
    }
  };
  const hear = (event: StoreEvent) => {
    for (const { namespace, name } of affected(store, event)) enqueue(namespace, name);
  };
  const stop = store.watch(hear);
  for (const service of store.list(TYPES.services)) enqueue(service.metadata.namespace ?? "", service.metadata.name);
  return () => {
    stop();
    clearImmediate(scheduled);
  };
}

/** The Services that a change may concern: itself, those that select or selected a workload, those whose slice it is. */
function affected(store: LabStore, event: StoreEvent): readonly { namespace: string; name: string }[] {
  const namespace = event.object.metadata.namespace ?? "";
  switch (event.resource.plural) {
    case "services":
      return [{ namespace, name: event.object.metadata.name }];
    case "endpointslices": {
      const names = [event.object, event.previous].map((slice) => slice?.metadata.labels?.[SERVICE_NAME]);
      return [...new Set(names)].filter((name) => name !== undefined).map((name) => ({ namespace, name }));
    }
    case "pods":
    case "externalworkloads":
      return store
        .list<Service>(TYPES.services, namespace)
        .filter((service) => selects(service, event.object) || (event.previous && selects(service, event.previous)))
        .map((service) => ({ namespace, name: service.metadata.name }));
    default:
      return [];
  }
}

function reconcile(store: LabStore, controller: Controller, namespace: string, name: string): void {
  const service = store.get<Service>(TYPES.services, namespace, name);
  const existing = store
    .list<EndpointSlice>(TYPES.endpointSlices, namespace)
    .filter(
      ({ metadata: { labels } }) =>
        labels?.[SERVICE_NAME] === name && labels[MANAGED_BY] === controller.owner.managedBy,
    );
  // With the Service its slices go, as dependents.
  if (service === undefined || service.metadata.deletionTimestamp !== undefined) return;
  const wanted = controller.wants(service) ? controller.endpoints(service) : [];
  const plan = planSlices(controller.owner, service, wanted, existing);
  const options = { fieldManager: controller.owner.managedBy };
  for (const slice of plan.create) store.create(TYPES.endpointSlices, namespace, slice, options);
  for (const slice of plan.update) store.update(TYPES.endpointSlices, namespace, slice, options);
  for (const slice of plan.remove) store.delete(TYPES.endpointSlices, namespace, slice.metadata.name);
}
