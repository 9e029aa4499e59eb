// As much of a browser as modules ask for when they are loaded; import it before them.

const nothing = (): void => undefined;
Object.assign(globalThis, { window: globalThis, location: { pathname: "/", search: "", href: "http://localhost/" }, matchMedia: () => ({ matches: false, addEventListener: nothing }), document: globalThis.document ?? { documentElement: { dataset: {} } } });
